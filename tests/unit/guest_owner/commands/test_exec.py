"""What the owner's calls do to files and the terminal; `rotate` says that it waits."""

import os
import pty
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import CcinitError, DeadlineError, PeerError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import Stream
from ccinit.formats.planes.owner_wire import Refused
from guest_owner.plane.client import CallRefusedError
from guest_owner.plane.open_call import Streams
from tests.fakes.machine.disk_log import log_disk
from tests.fakes.machine.scarcity import room_for
from tests.unit.guest_owner.command_line import error_of, run


class FakeClient:
    """Sends two pieces, or breaks off after the first."""

    def __init__(self, *, breaks: bool) -> None:
        self._breaks = breaks

    def stream(self, name: str, *params: object, streams: Streams) -> tuple[int]:
        assert (name, params[:2]) == ("copy", ("web", "/data/report"))
        streams.sinks[Stream.OUTPUT](b"new ")
        if self._breaks:
            raise PeerError("owner.closed", "the connection was cut off")
        streams.sinks[Stream.OUTPUT](b"content")
        return (11,)


GAVE_UP = CallRefusedError(
    Refused(code=RpcError.FAILED, reason="kbs.unreachable", detail="gave up")
)


class SlowGuest:
    """Answers `rotate` when the owner has been told that it takes long, or at once."""

    def __init__(self, told: Callable[[], bool], outcome: int | CcinitError) -> None:
        self._told = told
        self._outcome = outcome
        self.seconds: float | None = None

    def call(self, name: str, *, seconds: float | None = None) -> tuple[int]:
        assert name == "rotate"
        self.seconds = seconds
        end = time.monotonic() + 30
        while not self._told():
            assert time.monotonic() < end
            time.sleep(0.01)
        if isinstance(self._outcome, CcinitError):
            raise self._outcome
        return (self._outcome,)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Any:
    def connected_to(client: object) -> None:
        @contextmanager
        def connect(_arguments: object) -> Iterator[object]:
            yield client

        monkeypatch.setattr("guest_owner.commands.exec.connect", connect)

    return connected_to


@pytest.mark.parametrize("old", [None, b"old content"])
def test_copy_that_breaks_off_leaves_what_was_there(
    guest: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: bytes | None
) -> None:
    target = tmp_path / "report"
    if old is not None:
        target.write_bytes(old)
        target.chmod(0o640)
    guest(FakeClient(breaks=True))
    assert run("cp", "web:/data/report", target) == 1
    assert "[owner.closed]" in error_of(capsys)
    assert (target.read_bytes() if target.exists() else None) == old
    assert list(tmp_path.iterdir()) == ([] if old is None else [target])
    guest(FakeClient(breaks=False))
    assert run("cp", "web:/data/report", target) == 0
    assert target.read_bytes() == b"new content"
    assert old is None or target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_copy_that_finds_no_room_leaves_what_was_there(
    guest: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report"
    target.write_bytes(b"old")
    guest(FakeClient(breaks=False))
    with room_for(4):
        assert run("cp", "web:/data/report", target) == 1
    assert error_of(capsys) == f"guest-owner: {target}: File too large\n"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    assert run("cp", "web:/data/report", target) == 0
    assert target.read_bytes() == b"new content"


def test_copy_of_more_than_guests_send_leaves_what_was_there(
    guest: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "report"
    target.write_bytes(b"old")
    guest(FakeClient(breaks=False))
    monkeypatch.setattr("guest_owner.commands.exec.MAX_COPY_BYTES", len(b"new content") - 1)
    assert run("cp", "web:/data/report", target) == 1
    assert "[owner.copy_size]" in error_of(capsys)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    monkeypatch.setattr("guest_owner.commands.exec.MAX_COPY_BYTES", len(b"new content"))
    assert run("cp", "web:/data/report", target) == 0
    assert target.read_bytes() == b"new content"


def test_copy_is_on_the_disk_before_it_takes_the_place_of_a_file(
    guest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = log_disk(monkeypatch)
    guest(FakeClient(breaks=False))
    assert run("cp", "web:/data/report", tmp_path / "report") == 0
    assert done == ["flush file", "place"]


def test_copy_follows_a_link_and_writes_to_what_is_no_file(guest: Any, tmp_path: Path) -> None:
    guest(FakeClient(breaks=False))
    target, link = tmp_path / "report", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    assert run("cp", "web:/data/report", link) == 0
    assert link.is_symlink()
    assert target.read_bytes() == b"new content"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("cp", "web:/data/report", pipe) == 0
    assert os.read(reader, 64) == b"new content"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("source", "target"),
    [("web:/data/report", "."), ("web:/x", "no/report"), (".", "web:/x"), ("none", "web:/x")],
)
def test_local_file_that_cannot_be_is_told_before_anybody_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("cp", source, target) == 1
    local = target if source.startswith("web:") else source
    assert error_of(capsys).startswith(f"guest-owner: {local}: ")


@pytest.mark.parametrize(
    ("outcome", "status", "end"),
    [
        (2, 0, ""),
        (GAVE_UP, 1, "guest-owner: gave up [kbs.unreachable]"),
        (DeadlineError("owner.silent", "no answer"), 1, "may still rotate [owner.silent]"),
    ],
)
def test_rotation_that_takes_long_says_so_and_how_it_ended(
    guest: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: int | CcinitError,
    status: int,
    end: str,
) -> None:
    monkeypatch.setattr("guest_owner.plane.kbs_wait.ANNOUNCE_SECONDS", 0.01)
    errors: list[str] = []

    def told() -> bool:
        errors.append(error_of(capsys))
        return "waiting: the guest attests anew" in "".join(errors)

    client = SlowGuest(told, outcome)
    guest(client)
    assert run("rotate") == status
    assert client.seconds == 900
    assert end in error_of(capsys)


def test_rotation_that_is_answered_at_once_says_what_changed_alone(
    guest: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client = SlowGuest(lambda: True, 2)
    guest(client)
    assert run("rotate", "--seconds", "7") == 0
    assert client.seconds == 7
    assert capsys.readouterr() == ("2 secret files have changed\n", "")


@pytest.mark.parametrize("seconds", ["0", "-1", "1.5", "soon", "172801", "9" * 5000])
def test_rotation_is_waited_for_by_whole_seconds(seconds: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run("rotate", "--seconds", seconds)
    assert caught.value.code == 2


class Taker:
    """Takes a file and keeps what it is called."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def stream(self, name: str, *params: object, streams: Streams) -> tuple[int]:
        assert name == "copy"
        assert streams.source is not None
        self.asked.append((*params[:3], os.read(streams.source, 64)))
        return (7,)


@pytest.mark.parametrize("name", ["./a:b", "{}/a:b", "a"])
def test_file_with_a_colon_in_its_name_can_be_copied_by_its_path(
    guest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    local = Path(name.format(tmp_path))
    local.write_bytes(b"content")
    taker = Taker()
    guest(taker)
    assert run("cp", name.format(tmp_path), "web:/data/x") == 0
    assert taker.asked == [("web", "/data/x", True, b"content")]


@pytest.mark.parametrize("places", [("web:/a", "db:/b"), ("a", "b"), ("./a:b", "/c:d")])
def test_one_place_is_in_a_container_and_one_is_not(
    guest: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    places: tuple[str, str],
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    guest(Taker())
    assert run("cp", *places) == 2
    assert "[cp.form]" in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


class HostileWriter:
    """A container that writes to whoever is attached."""

    def stream(self, _name: str, *_params: object, streams: Streams) -> tuple[int, ...]:
        for fd in (Stream.OUTPUT, Stream.ERROR):
            streams.sinks[fd](b"\x1b]0;owned\x07 ready\n")
        return (0, 0)


@pytest.mark.parametrize("command", [("attach", "web"), ("exec", "web", "/bin/x")])
def test_terminal_obeys_nothing_that_a_container_writes(
    guest: Any, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    guest(HostileWriter())
    near, far = pty.openpty()
    with os.fdopen(near, "rb") as seen, os.fdopen(far, "w") as terminal:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        assert run(*command) == 0
        lines = seen.readline(), seen.readline()
    assert lines == (b"\\x1b]0;owned\\x07 ready\r\n",) * 2


def test_file_gets_what_a_container_writes_as_it_is(
    guest: Any, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    guest(HostileWriter())
    assert run("attach", "web") == 0
    assert capfdbinary.readouterr() == (b"\x1b]0;owned\x07 ready\n",) * 2


class EndedProgram:
    """A guest whose programs end like this."""

    def __init__(self, code: int, number: int) -> None:
        self._result = (code, number)

    def stream(self, name: str, *_: object, streams: Streams) -> tuple[int, int]:
        assert name == "exec"
        assert streams.source is None
        return self._result


@pytest.mark.parametrize(("code", "number", "status"), [(3, 0, 3), (0, 9, 137), (0, 127, 255)])
def test_exec_ends_with_the_status_of_its_program(
    guest: Any, code: int, number: int, status: int
) -> None:
    guest(EndedProgram(code, number))
    assert run("exec", "web", "/x") == status


@pytest.mark.parametrize("number", [128, 255])
def test_signal_that_no_status_can_hold_is_refused(
    guest: Any, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    guest(EndedProgram(0, number))
    assert run("exec", "web", "/x") == 1
    assert f"there is no signal {number} [owner.result]" in error_of(capsys)


def test_exec_of_a_program_that_is_not_absolute_asks_no_guest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def connect(arguments: object) -> None:
        asked.append(arguments)
        raise PeerError("owner.asked", "a guest was asked")

    monkeypatch.setattr("guest_owner.commands.exec.connect", connect)
    endpoint = ("--connect", "127.0.0.1:1", "--pod", "shop")
    assert run("exec", *endpoint, "web", "--", "ls") == 2
    assert "expected a program's absolute path, found 'ls' [exec.args]" in error_of(capsys)
    assert asked == []
    assert run("exec", *endpoint, "web", "--", "/bin/ls") == 1
    assert "[owner.asked]" in error_of(capsys)
    assert len(asked) == 1
