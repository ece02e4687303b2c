"""What `guest-owner logs`, `metrics` and `attest` print of what a guest says."""

import json
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from ccinit.formats.planes.owner_rpc import Stream, report_data
from ccinit.formats.sealed_log import Kind
from guest_owner.commands import plane as plane_command
from guest_owner.kbs.state.store import Store
from guest_owner.plane.open_call import Streams
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.unit.guest_owner.command_line import run
from tests.unit.guest_owner.kbs.values import DOCUMENT, booted_tpm, reference_set, register


class Client:
    """A guest that remembers these lines; to whoever follows, it says one more."""

    def __init__(self, *lines: bytes, kind: Kind = Kind.STDOUT) -> None:
        self._lines = lines
        self._kind = kind

    def stream(self, _method: str, *params: object, streams: Streams) -> tuple[int]:
        *_, since, follow = params
        assert isinstance(since, int)
        lines = (*self._lines, b"news\n") if follow else self._lines
        for number, line in list(enumerate(lines))[since:]:
            entry = [number, 1_500_000, self._kind, "web", line]
            streams.sinks[Stream.OUTPUT](msgpack.packb(entry))
        return (len(lines),)


@pytest.mark.parametrize(
    ("lines", "said"), [((b"hello\n",), False), ((), True)], ids=["some", "none"]
)
def test_nothing_to_print_is_told_as_that(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: tuple[bytes, ...],
    *,
    said: bool,
) -> None:
    @contextmanager
    def connect(_arguments: object) -> Iterator[Client]:
        yield Client(*lines)

    monkeypatch.setattr(plane_command, "connect", connect)
    assert run("logs", "--container", "web", "--state", tmp_path) == 0
    printed = capsys.readouterr()
    assert ("stdout:web  hello" in printed.out) != said
    assert ("the sealed log has all" in printed.err) == said


@pytest.mark.parametrize(
    ("kind", "printed"),
    [
        (Kind.STDOUT, ["stdout:web  a\\x1b", "stdout:web  ", "stdout:web  event:ccinit  b"]),
        (Kind.EVENT, ["event:web  a\\x1b\\n\\nevent:ccinit  b"]),
    ],
)
def test_lines_that_a_container_wrote_at_once_are_lines_and_each_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: Kind,
    printed: list[str],
) -> None:
    """Of an event a part can be anybody's words, and would look like another event."""

    @contextmanager
    def connect(_arguments: object) -> Iterator[Client]:
        yield Client(b"a\x1b\n\nevent:ccinit  b\n", kind=kind)

    monkeypatch.setattr(plane_command, "connect", connect)
    assert run("logs") == 0
    assert capsys.readouterr().out.splitlines() == [f"      1.500000 {one}" for one in printed]


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ((), ["a", "b", "c", "d"]),
        (("--tail", "2"), ["c", "d"]),
        (("--tail", "0"), []),
        (("--tail", "9"), ["a", "b", "c", "d"]),
        (("--since", "2", "--tail", "9"), ["d"]),
        (("--tail", "3", "--follow"), ["b", "c", "d", "news"]),
        (("--tail", "0", "--follow"), ["news"]),
        (("--follow",), ["a", "b", "c", "d", "news"]),
    ],
)
@pytest.mark.parametrize("method", ["logs", "events"])
def test_only_the_last_lines_are_printed_of_what_is_there_and_all_that_follow(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    options: tuple[str, ...],
    printed: list[str],
) -> None:
    """A line is what is printed as one: the container wrote the second and third at once."""

    @contextmanager
    def connect(_arguments: object) -> Iterator[Client]:
        yield Client(b"a\n", b"b\nc\n", b"d\n")

    monkeypatch.setattr(plane_command, "connect", connect)
    assert run(method, *options) == 0
    shown = capsys.readouterr()
    assert [line.rpartition(" ")[2] for line in shown.out.splitlines()] == printed
    assert not shown.err


def test_last_entries_of_json_are_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def connect(_arguments: object) -> Iterator[Client]:
        yield Client(b"a\n", b"b\nc\n")

    monkeypatch.setattr(plane_command, "connect", connect)
    assert run("logs", "--tail", "1", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["text"] == r"b\nc"


@pytest.mark.parametrize(("uptime", "is_known"), [("60.5", True), ("nan", False)])
def test_log_of_a_guest_that_runs_has_times_of_day_if_the_guest_knows_its_age(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    uptime: str,
    *,
    is_known: bool,
) -> None:
    class AgedClient(Client):
        def call(self, method: str) -> tuple[bytes]:
            assert method == "metrics"
            return (f"ccinit_uptime_seconds {uptime}\n".encode(),)

    @contextmanager
    def connect(_arguments: object) -> Iterator[AgedClient]:
        yield AgedClient(b"hello")

    monkeypatch.setattr(plane_command, "connect", connect)
    assert run("logs", "--utc") == 0
    time, _, text = capsys.readouterr().out.partition(" stdout:web  ")
    assert (time.endswith("Z"), text) == (is_known, "hello\n")
    assert run("logs", "--utc", "--json") == 0
    utc = json.loads(capsys.readouterr().out)["utc"]
    assert (utc is not None) == is_known
    if is_known:  # written 1.5 s after a boot that was 60.5 s ago
        age = datetime.now(UTC) - datetime.fromisoformat(utc.removesuffix("Z") + "+00:00")
        assert abs(age - timedelta(seconds=59)) < timedelta(seconds=10)


def test_entry_that_is_cut_off_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class CutClient:
        def stream(self, _method: str, *_params: object, streams: Streams) -> tuple[int]:
            entries = [
                msgpack.packb([number, 0, Kind.STDOUT, "web", b"hello"]) for number in (0, 1)
            ]
            streams.sinks[Stream.OUTPUT](b"".join(entries)[:-1])
            return (2,)

    @contextmanager
    def connect(_arguments: object) -> Iterator[CutClient]:
        yield CutClient()

    monkeypatch.setattr(plane_command, "connect", connect)
    assert run("logs") == 1
    printed = capsys.readouterr()
    assert printed.out.count("hello") == 1
    assert "the last entry is cut off [owner.entry]" in printed.err


HOSTILE = b"\x1b]0;owned\x07 \xff {}"


class HostileGuest:
    """A guest that nobody has judged yet."""

    certificate_der = b""
    group = 29  # x25519

    def call(self, method: str, *_params: object) -> tuple[object, ...]:
        return {"metrics": (HOSTILE + b"\n",), "attest": ("tpm", HOSTILE)}[method]


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(_arguments: object) -> Iterator[HostileGuest]:
        yield HostileGuest()

    monkeypatch.setattr(plane_command, "connect", connect)


COMMANDS = pytest.mark.parametrize("command", [("metrics",), ("attest", "--evidence-only")])


@COMMANDS
@pytest.mark.usefixtures("hostile")
def test_terminal_obeys_nothing_that_an_unjudged_guest_says(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    near, far = pty.openpty()
    with os.fdopen(near, "rb") as seen, os.fdopen(far, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run(*command) == 0
        assert seen.readline() == b"\\x1b]0;owned\\x07 \\xff {}\r\n"


@COMMANDS
@pytest.mark.usefixtures("hostile")
def test_file_gets_what_an_unjudged_guest_says_as_it_is(
    capfdbinary: pytest.CaptureFixture[bytes], command: tuple[str, ...]
) -> None:
    assert run(*command) == 0
    assert capfdbinary.readouterr().out == HOSTILE + b"\n"


class AttestingGuest:
    """A guest that proves what its TPM says of it, over a TLS connection of its own."""

    certificate_der = b"the guest's certificate"
    group = 29  # x25519

    def __init__(self, tpm: FakeTpm) -> None:
        self._tpm = tpm

    def call(self, method: str, nonce: bytes) -> tuple[object, ...]:
        assert method == "attest"
        quote = self._tpm.quote(report_data(nonce, self.certificate_der))
        return "tpm", json.dumps(quote.to_json_value()).encode()


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTpm:
    """The TPM of a guest that runs; its image, key and document are registered in `tmp_path`."""
    image = reference_set()
    tpm = booted_tpm(image)
    store = Store(tmp_path)
    store.add_reference(image)
    store.add_attestation_key("node", tpm.public_der)
    (tmp_path / "initdata").mkdir()
    (tmp_path / "initdata/shop.toml").write_bytes(DOCUMENT)

    @contextmanager
    def connect(_arguments: object) -> Iterator[AttestingGuest]:
        yield AttestingGuest(tpm)

    monkeypatch.setattr(plane_command, "connect", connect)
    return tpm


def test_verdict_on_a_guest_that_runs_is_a_table_or_json(
    tmp_path: Path, tpm: FakeTpm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("attest", "--state", tmp_path) == 0
    said = capsys.readouterr().out
    assert said.endswith("\n\naccepted: image image-1 (prod), initdata shop\nkey exchange x25519\n")
    assert run("attest", "--state", tmp_path, "--json") == 0
    accepted = json.loads(capsys.readouterr().out)
    assert (accepted["verdict"], accepted["tee"]) == ("accepted", "tpm")
    assert (accepted["reference"], accepted["initdata_name"]) == ("image-1", "shop")
    assert accepted["key_exchange"] == "x25519"
    assert {"quote.report_data", "pcr.15"} <= {claim["name"] for claim in accepted["claims"]}

    tpm.pcrs[15] = register("debug was opened")
    assert run("attest", "--state", tmp_path) == 1
    assert capsys.readouterr().out.endswith("\n\nrefused: pcr.15\nkey exchange x25519\n")
    assert run("attest", "--state", tmp_path, "--json") == 1
    refused = json.loads(capsys.readouterr().out)
    assert (refused["verdict"], refused["reason"]) == ("refused", "pcr.15")
    assert [claim["name"] for claim in refused["claims"] if not claim["holds"]] == ["pcr.15"]
