"""The owner's commands for logs: what is printed, and the exit code."""

import argparse
import errno
import json
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.evidence.log_key import encode_log_evidence
from ccinit.formats.kbs.launch_secret import vouch_for_log
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import BootId, Kind
from ccinit.seal.log import MIN_CAPACITY, OWN_SOURCE, SealedLog
from ccinit.secret import Secret
from guest_owner.cli import main
from guest_owner.commands import unseal as unseal_command
from guest_owner.commands.unseal import (
    EXIT_BAD,
    EXIT_GOOD,
    EXIT_OPEN,
    add_parser,
    evidence_verifier,
    exit_code,
    text_lines,
    text_verdict,
)
from guest_owner.kbs.references.values import References
from guest_owner.sealed_log.entries import LogEntry
from guest_owner.sealed_log.key import LogKey, parse_log_key
from tests.fakes.documents.unsealed_log import Unsealed, unseal

BOOT_ID = (b"b" * 16).hex()
OWNER = LogKey(b"o" * 32)
PSK = b"p" * 32


def make_stream(*, ended: bool = True) -> bytes:
    log = SealedLog(clock=lambda: 1_500_000)
    log.append(Kind.EVENT, "", b"too early")
    log.open(OWNER.public_bytes, BootId(b"b" * 16))
    log.bind(b"evidence")
    log.public_event(Phase.ATTEST, Code.OK)
    log.mix(Secret(PSK))
    log.append(Kind.STDOUT, "web", b"\x1b]0;title\x07 ok \xff\n")
    if ended:
        log.close(b"stopped by the owner")
    return log.ring.read(0, MIN_CAPACITY).data


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(arguments)


def run(*arguments: str) -> int:
    parsed = parse(*arguments)
    code: int = parsed.func(parsed)
    return code


@pytest.fixture
def files(tmp_path: Path) -> Path:
    OWNER.write(tmp_path / "key")
    (tmp_path / "psk").write_bytes(PSK)
    (tmp_path / "log").write_bytes(make_stream())
    return tmp_path


def test_command_new_key_prints_what_the_file_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.key"
    assert run("log-key", "new", str(path)) == EXIT_GOOD
    printed = capsys.readouterr().out.strip()
    assert printed == parse_log_key(path.read_bytes()).public_text
    assert run("log-key", "public", str(path)) == EXIT_GOOD
    assert capsys.readouterr().out.strip() == printed


def test_command_prints_text_without_control_characters(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        "unseal", str(files / "log"), "--key", str(files / "key"), "--psk", str(files / "psk")
    )
    out = capsys.readouterr().out
    assert code == EXIT_OPEN, "nobody checked the evidence"
    assert "\x1b" not in out
    assert "      1.500000  stdout:web  \\x1b]0;title\\x07 ok \\xff\n" in out
    assert "code  phase ATTEST code OK" in out
    assert "-- 1 entries were dropped here --" in out
    assert "report  stopped by the owner" in out
    assert out.endswith(
        f"\n\nboot       {BOOT_ID}\n"
        "records    7, signed up to 7 (1.500000)\n"
        "evidence   NOT CHECKED: give --state to learn who wrote this\n"
        "shared key in use\n"
        "verdict    complete, in order, signed to the end\n"
    )


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (Kind.STDERR, ["? stderr:web  a", "? stderr:web  b"]),
        (Kind.REPORT, ["? report:web  a\\nb"]),
    ],
)
def test_lines_that_a_container_wrote_at_once_are_lines(kind: Kind, shown: list[str]) -> None:
    entry = LogEntry(
        index=2, is_signed=False, boottime_us=1, kind=kind, source="web", dropped=0, data=b"a\nb\n"
    )
    assert list(text_lines([entry])) == [f"      0.000001{one}" for one in shown]


def test_drops_are_counted_where_they_happened() -> None:
    def entry(dropped: int) -> LogEntry:
        return LogEntry(
            index=1, is_signed=True, boottime_us=1, kind=Kind.EVENT, source="", dropped=dropped,
            data=b"e",
        )  # fmt: skip

    lines = list(text_lines(map(entry, (0, 2, 2, 5))))
    told = [line.strip() for line in lines if "dropped" in line]
    assert told == ["-- 2 entries were dropped here --", "-- 3 entries were dropped here --"]
    assert ["dropped" in line for line in lines] == [False, True, False, False, True, False]


def unseal_to_json(files: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    command = ("unseal", str(files / "log"), "--key", str(files / "key"))
    run(*command, "--psk", str(files / "psk"), "--json")
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_command_prints_times_of_day_once_the_guest_has_been_told_them(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = SealedLog(clock=lambda: 1_500_000)
    log.open(OWNER.public_bytes, BootId(b"b" * 16))
    log.bind(b"evidence")
    log.mix(Secret(PSK))
    log.append(Kind.STDOUT, "web", b"early")
    log.append(Kind.EVENT, OWN_SOURCE, b"clock: set to 2026-11-28T12:00:00Z")
    log.append(Kind.STDOUT, "web", b"late")
    log.close()
    (files / "log").write_bytes(log.ring.read(0, MIN_CAPACITY).data)
    command = ["unseal", str(files / "log"), "--key", str(files / "key"), "--utc"]
    command += ["--psk", str(files / "psk"), "--kind", "stdout"]
    run(*command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "                1.500000  stdout:web  early",
        "2026-11-28T12:00:00.000Z  stdout:web  late",
    ]
    run(*command, "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["utc"] for row in rows[:2]] == [None, "2026-11-28T12:00:00.000Z"]


def test_command_prints_json_lines_whose_keys_are_stable(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = unseal_to_json(files, capsys)
    assert [row["kind"] for row in rows[:-1]] == [
        "evidence", "code", "mix", "stdout", "report", "end",
    ]  # fmt: skip
    assert rows[3] == {
        "index": 4, "boottime_us": 1_500_000, "kind": "stdout", "source": "web", "dropped": 1,
        "signed": True, "text": "\\x1b]0;title\\x07 ok \\xff", "data": "G10wO3RpdGxlByBvayD/Cg==",
    }  # fmt: skip
    assert rows[-1] == {
        "boot_id": BOOT_ID, "records": 7, "signed": 7, "signed_boottime_us": 1_500_000,
        "bound": None, "guest": "", "mixed": True, "ended": True, "findings": [],
    }  # fmt: skip


def test_command_names_what_is_wrong(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = bytearray((files / "log").read_bytes())
    stream[1192 + 512 * 3 + 40] ^= 1
    (files / "log").write_bytes(stream)
    code = run(
        "unseal", str(files / "log"), "--key", str(files / "key"), "--psk", str(files / "psk")
    )
    assert code == EXIT_BAD
    detail = "does not open: changed, or another shared key"
    out = capsys.readouterr().out
    assert f"WRONG      record 4: unseal.forged: {detail}\n" in out
    assert "complete" not in out
    verdict = unseal_to_json(files, capsys)[-1]
    assert verdict["findings"] == [{"reason": "unseal.forged", "index": 4, "detail": detail}]


def test_stream_of_which_nothing_opens_says_so() -> None:
    assert list(text_verdict(verdict(b"")))[:5] == [
        "",
        "boot       unknown",
        "records    0, signed up to 0",
        "evidence   NOT CHECKED: give --state to learn who wrote this",
        "shared key not in use",
    ]


def test_command_reads_a_log_that_is_larger_than_memory(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["unseal", str(files / "log"), "--key", str(files / "key")]
    arguments += ["--psk", str(files / "psk")]
    run(*arguments)
    whole = capsys.readouterr().out
    assert "verdict    complete" in whole
    with (files / "log").open("r+b") as file:
        file.truncate(1 << 40)  # a hole: nothing that would be a record
    assert run(*arguments) == EXIT_BAD
    beyond = capsys.readouterr().out
    assert beyond.startswith(whole.partition("\nverdict ")[0])
    assert "WRONG      record 8: unseal.trailing" in beyond


def test_log_on_a_disk_that_fails_is_named(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of this one the kernel gives no byte from its start: it opens, and cannot be read."""
    for log, why in (("/proc/self/mem", "Input/output error"), (files, "Is a directory")):
        assert main(["unseal", str(log), "--key", str(files / "key")]) == 1
        assert capsys.readouterr().err == f"guest-owner: cannot read {log}: {why} [state.read]\n"


def test_reader_that_has_gone_away_is_no_log_that_cannot_be_read(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe", "standard output")

    monkeypatch.setattr(unseal_command, "write_lines", write)
    assert main(["unseal", str(files / "log"), "--key", str(files / "key")]) == 1
    assert not capsys.readouterr().err


def test_command_marks_what_no_signature_covers(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "log").write_bytes(make_stream(ended=False))
    arguments = ["unseal", str(files / "log"), "--key", str(files / "key")]
    arguments += ["--psk", str(files / "psk")]
    assert run(*arguments) == EXIT_OPEN
    assert "1.500000? stdout:web" in capsys.readouterr().out
    run(*arguments, "--json")
    *rows, _verdict = map(json.loads, capsys.readouterr().out.splitlines())
    assert [row["signed"] for row in rows] == [False] * 4


def test_command_with_a_state_judges_the_evidence(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unseal_command, "evidence_verifier", lambda *_: lambda *_: "image x (prod)")
    arguments = ["unseal", str(files / "log"), "--key", str(files / "key"), "--state", str(files)]
    assert run(*arguments, "--psk", str(files / "psk")) == EXIT_GOOD
    assert "evidence   image x (prod)" in capsys.readouterr().out


def test_command_takes_the_state_of_the_other_commands(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseal_command, "evidence_verifier", lambda *_: lambda *_: "image x (prod)")
    arguments = ["unseal", str(files / "log"), "--key", str(files / "key")]
    arguments += ["--psk", str(files / "psk")]
    assert run(*arguments) == EXIT_OPEN
    monkeypatch.setenv("GUEST_OWNER_STATE", str(files))
    assert run(*arguments) == EXIT_GOOD


def test_command_prints_the_entries_that_are_asked_for_and_verifies_all(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["unseal", str(files / "log"), "--key", str(files / "key")]
    arguments += ["--psk", str(files / "psk"), "--json"]

    def shown(*more: str) -> list[str]:
        run(*arguments, *more)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert rows[-1]["ended"]
        return [row["kind"] for row in rows[:-1]]

    assert shown("--kind", "report", "--kind", "code") == ["code", "report"]
    assert shown("--source", "web") == ["stdout"]
    assert shown("--source", "web", "--kind", "code") == []


def test_log_that_is_not_over_is_not_called_wrong() -> None:
    lines = "\n".join(text_verdict(verdict(make_stream(ended=False))))
    assert "OPEN       record" in lines
    assert "WRONG" not in lines


def verdict(stream: bytes) -> Unsealed:
    return unseal(stream, OWNER, psk=PSK, verify_evidence=lambda *_: "image x (prod), pod y")


def test_exit_code_tells_whole_open_and_wrong_apart() -> None:
    whole, unfinished = make_stream(), make_stream(ended=False)
    assert exit_code(verdict(whole)) == EXIT_GOOD
    assert exit_code(verdict(unfinished)) == EXIT_OPEN
    assert exit_code(verdict(whole[:-1])) == EXIT_OPEN
    assert exit_code(verdict(whole + b"\0")) == EXIT_BAD
    assert exit_code(verdict(b"")) == EXIT_BAD
    assert "image x (prod), pod y" in "\n".join(text_verdict(verdict(whole)))


def test_evidence_that_does_not_verify_is_loud() -> None:
    def refuse(*_: object) -> str:
        raise FormatError("evidence.tee", "unknown")

    result = unseal(make_stream(), OWNER, psk=PSK, verify_evidence=refuse)
    assert exit_code(result) == EXIT_BAD
    assert "DOES NOT VERIFY by what is registered now" in "\n".join(text_verdict(result))


def test_evidence_of_an_unknown_tee_is_refused() -> None:
    verify = evidence_verifier(References(sets=(), attestation_keys=(), initdata=()))
    evidence = encode_log_evidence("sampledevice", b"{}")
    with pytest.raises(CcinitError) as error:
        verify(evidence, BootId(bytes(16)), bytes(32))
    assert error.value.reason == "evidence.tee"


def test_tpm_evidence_goes_to_its_verifier() -> None:
    verify = evidence_verifier(References(sets=(), attestation_keys=(), initdata=()))
    quote = {"signature": "AA==", "message": "AA==", "pcrs": ["00" * 32] * 24}
    evidence = json.dumps({"tpm_quote": quote, "ak_public": "AA=="}).encode()
    with pytest.raises(CcinitError) as error:
        verify(encode_log_evidence("tpm", evidence), BootId(bytes(16)), bytes(32))
    assert error.value.reason.startswith("tpm2.")


def test_log_of_a_judged_launch_is_vouched_for_by_its_psk() -> None:
    log = SealedLog(clock=lambda: 1_500_000)
    log.open(OWNER.public_bytes, BootId(b"b" * 16))
    voucher = vouch_for_log(PSK, log.binding)
    log.bind(encode_log_evidence("sev", voucher))
    log.mix(Secret(PSK))
    log.close()
    stream = log.ring.read(0, MIN_CAPACITY).data

    def read(psk: bytes | None) -> Unsealed:
        judge = evidence_verifier(References(), psk)
        return unseal(stream, OWNER, psk=PSK, verify_evidence=judge)

    result = read(PSK)
    assert (result.bound, exit_code(result)) == (True, EXIT_GOOD)
    assert "judged" in result.guest
    for psk in (b"q" * 32, None):
        assert read(psk).bound is False
