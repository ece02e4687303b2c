"""`guest-owner audit`: what the owner reads of the log."""

import json
import tracemalloc
from pathlib import Path

import pytest

from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.limits import Limits
from tests.unit.guest_owner.command_line import error_of, run


def test_audit_show_prints_decisions_and_claims(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("audit", "show", "--state", state) == 0
    assert "nothing was asked yet" in capsys.readouterr().out
    log = AuditLog(state / "audit.jsonl")
    claims = (
        Claim(name="pcr.4", expected="aa", got="aa", holds=True),
        Claim(name="pcr.9", expected="bb", got="\x1b[31mcc", holds=False),
    )
    for session in ("one", "two"):
        log.append(
            AuditRecord(
                event=Event.ATTEST,
                session=session,
                tee="tpm",
                decision=Decision.REFUSED,
                reason="pcr.9",
                claims=claims,
            )
        )
    assert run("audit", "show", "--state", state) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run("audit", "show", "--state", state, "--session", "two") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.splitlines()[-2].split() == ["claim", "expected", "got", "verdict"]
    assert shown.splitlines()[-1].split() == ["pcr.9", "bb", "?[31mcc", "REFUSED"]
    assert run("audit", "show", "--state", state, "--session", "two", "--all") == 0
    assert "pcr.4" in capsys.readouterr().out
    assert run("audit", "show", "--state", state, "--session", "two", "--json") == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (record["session"], record["claims"][1]["got"]) == ("two", "\x1b[31mcc")
    assert run("audit", "show", "--state", state, "--session", "three") == 1
    assert "[audit.session]" in error_of(capsys)


@pytest.mark.parametrize("got", ["\0", "a\x1b\x85\u202e", "\ud800", "\U0001f512" * 3000])
def test_audit_show_prints_claims_of_any_text(
    state: Path, capsys: pytest.CaptureFixture[str], got: str
) -> None:
    """The log has what a peer said; nothing in it may keep its owner from reading it."""
    claims = tuple(
        Claim(name=name, expected="aa", got=said, holds=False)
        for name, said in (("pcr.9", got), ("event.\0", "bb"), ("pcr.14", "cc"))
    )
    AuditLog(state / "audit.jsonl").append(
        AuditRecord(
            event=Event.ATTEST,
            session="one",
            tee="tpm",
            decision=Decision.REFUSED,
            reason=f"pcr.9: {got}",
            claims=claims,
        )
    )
    assert run("audit", "show", "--state", state, "--session", "one") == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[-3:]] == ["pcr.9", "event.?", "pcr.14"]
    assert all(character == "\n" or character.isprintable() for character in shown)


@pytest.mark.parametrize("decision", [Decision.ACCEPTED, Decision.REFUSED])
def test_session_of_another_verifiers_token_names_its_issuer(
    state: Path, capsys: pytest.CaptureFixture[str], decision: Decision
) -> None:
    AuditLog(state / "audit.jsonl").append(
        AuditRecord(
            event=Event.ATTEST,
            session="one",
            tee="tpm",
            decision=decision,
            claims=(Claim(name="passport.expiry", expected="later", got="later", holds=True),),
            measured={"passport": {"issuer": "vendor"}},
        )
    )
    assert run("audit", "show", "--state", state, "--session", "one") == 0
    assert "\nby a token of the issuer vendor\n" in capsys.readouterr().out


def test_audit_show_tells_a_state_that_is_not_there_from_one_that_nobody_asked(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("audit", "show", "--state", state) == 0
    assert "nothing was asked yet" in capsys.readouterr().out
    assert run("audit", "show", "--state", state, "--json") == 0
    assert not capsys.readouterr().out
    assert run("audit", "show", "--state", tmp_path / "absent") == 1
    assert "[state.missing]" in error_of(capsys)


def test_audit_show_names_administrators_and_what_they_did(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    AuditLog(state / "audit.jsonl").append(
        AuditRecord(
            event=Event.ADMIN,
            session="",
            tee="",
            decision=Decision.ACCEPTED,
            request="DELETE /kbs/v0/resource/a/b/c",
            administrator="alice",
        )
    )
    assert run("audit", "show", "--state", state) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["time", "event", "who", "decision", "what", "reason"]
    assert line.split()[1:] == ["admin", "alice", "accepted", "DELETE", "/kbs/v0/resource/a/b/c"]


def test_audit_show_says_how_many_refusals_of_strangers_were_removed(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[AuditRecord] = []
    limits = Limits(stranger_file_bytes=1000, stranger_older_files=1)
    log = AuditLog(state / "audit.jsonl", limits, written.append)
    for number in range(40):
        log.append(
            AuditRecord(
                event=Event.AUTH,
                session="",
                tee="tpm",
                decision=Decision.REFUSED,
                reason=f"number {number}",
            )
        )
    assert run("audit", "show", "--state", state) == 0
    _header, *lines = capsys.readouterr().out.splitlines()
    assert 0 < sum("number" in line for line in lines) < 40
    rotations = [line for line in lines if "removed so far" in line]
    assert f" {len(written) - len(lines)} records removed so far  " in rotations[-1]


def test_audit_show_prints_json_without_having_all_of_it_in_memory(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = AuditLog(state / "audit.jsonl")
    record = AuditRecord(
        event=Event.ADMIN, session="", tee="", decision=Decision.ACCEPTED, reason="x" * 2000
    )
    for _ in range(3):
        log.append(record)
    text = (state / "audit.jsonl").read_text()
    (state / "audit.jsonl").write_text(text * 1000)
    tracemalloc.start()
    try:
        assert run("audit", "show", "--state", state, "--json") == 0
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3000
    assert most < 1.5 * len(shown)  # what is shown, as this test collects it, and no records


def test_audit_show_keeps_no_claims_for_a_table_without_them(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = tuple(
        Claim(name=f"pcr.{number}", expected="a" * 64, got="a" * 64, holds=True)
        for number in range(24)
    )
    AuditLog(state / "audit.jsonl").append(
        AuditRecord(
            event=Event.ATTEST,
            session="one",
            tee="tpm",
            decision=Decision.ACCEPTED,
            claims=claims,
        )
    )
    line = (state / "audit.jsonl").read_text()
    (state / "audit.jsonl").write_text(line * 1000)
    tracemalloc.start()
    try:
        assert run("audit", "show", "--state", state) == 0
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(capsys.readouterr().out.splitlines()) == 1001
    assert most < 500 * len(line)  # half of the log


def test_audit_show_begins_to_print_before_it_has_read_all_of_a_log(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    AuditLog(state / "audit.jsonl").append(
        AuditRecord(event=Event.AUTH, session="one", tee="tpm", decision=Decision.ACCEPTED)
    )
    line = (state / "audit.jsonl").read_text()
    for options in ((), ("--session", "one")):
        (state / "audit.jsonl").write_text(line * 3000)
        assert run("audit", "show", "--state", state, *options) == 0
        whole = capsys.readouterr().out.splitlines()
        (state / "audit.jsonl").write_text(f"{line * 3000}no record\n")
        assert run("audit", "show", "--state", state, *options) == 1
        printed, told = capsys.readouterr()
        assert "audit.jsonl, line 3001 is not JSON: move that line elsewhere, and" in told
        shown = printed.splitlines()
        assert 1000 < len(shown) < len(whole)
        assert shown == whole[: len(shown)]
