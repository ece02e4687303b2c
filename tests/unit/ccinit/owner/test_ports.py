"""The descriptors of one call: bytes both ways, a client that stands still, and every end."""

import os
import struct
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import WINDOW_BYTES, Stream
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    Refused,
    Reply,
    encode_credit,
)
from ccinit.kernel.clock import boottime
from ccinit.owner import ports
from ccinit.owner.messages import CallEnd, Flow, Port
from ccinit.owner.ports import OpenCall
from tests.fakes.machine.scarcity import count_descriptors
from tests.unit.ccinit.owner.ports_world import GOOD, World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.open_exec()
    yield made
    made.close()


def test_output_and_end_arrive_in_that_order(world: World) -> None:
    os.write(world.ours[1], b"hello")
    os.close(world.ours.pop(1))
    os.write(world.ours[1], wire.encode(GOOD))
    os.close(world.ours.pop(1))
    assert world.turn() == [
        Data(id=1, fd=1, content=b"hello"),
        Data(id=1, fd=1, content=b""),
        Reply(msgid=1, outcome=(3, 0)),
    ]
    assert world.call.is_over


def test_bad_end_is_a_refusal(world: World) -> None:
    world.end(CallEnd(code=RpcError.FAILED, reason="run.exec", detail="gone"))
    os.close(world.ours.pop(1))
    reply = world.turn()[-1]
    refused = Refused(code=RpcError.FAILED, reason="run.exec", detail="gone")
    assert reply == Reply(msgid=1, outcome=refused)


def test_input_goes_through_and_its_end_too(world: World) -> None:
    world.send(Stream.INPUT, b"some")
    world.turn()
    world.send(Stream.INPUT, b"")
    assert os.read(world.ours[0], 100) == b"some"
    assert os.read(world.ours[0], 100) == b""


def test_end_of_input_waits_for_the_input(world: World) -> None:
    world.send(Stream.INPUT, b"some")
    world.send(Stream.INPUT, b"")
    world.turn()
    assert os.read(world.ours[0], 100) == b"some"
    assert os.read(world.ours[0], 100) == b""


def test_nothing_follows_the_end_of_input(world: World) -> None:
    for content in (b"some", b"", b"late"):
        world.send(Stream.INPUT, content)
    world.turn()
    assert os.read(world.ours[0], 100) == b"some"
    assert os.read(world.ours[0], 100) == b""


def test_program_that_reads_little_holds_nobody_up(world: World) -> None:
    """Its pipe takes a page, and the client has sent more."""
    for content in (bytes(WINDOW_BYTES), b"x" * WINDOW_BYTES):
        world.send(Stream.INPUT, content)
        world.turn()
        assert os.read(world.ours[0], 4096) == bytes(4096)
    world.turn()
    assert os.read(world.ours[0], WINDOW_BYTES)[-4096:] == b"x" * 4096


def test_client_that_stands_still_stops_its_own_pipe_at_a_window(world: World) -> None:
    os.set_blocking(world.ours[1], False)
    written = 0
    for _ in range(100):
        try:
            written += os.write(world.ours[1], bytes(4096))
        except BlockingIOError:
            world.turn()
    sent = sum(len(one.content) for one in world.received if isinstance(one, Data))
    assert sent == WINDOW_BYTES
    assert written < 3 * WINDOW_BYTES  # the window, and what a pipe holds
    list(world.session.feed(encode_credit(Credit(id=1, count=WINDOW_BYTES))))
    assert sum(len(one.content) for one in world.turn(40) if isinstance(one, Data)) > 0


def test_program_that_does_not_read_gets_a_window_and_returns_no_credit(world: World) -> None:
    os.set_blocking(world.ours[0], False)
    world.send(Stream.INPUT, bytes(WINDOW_BYTES))
    world.turn()
    world.send(Stream.INPUT, bytes(WINDOW_BYTES // 2))  # the pipe took the first
    assert sum(one.count for one in world.received if isinstance(one, Credit)) <= WINDOW_BYTES
    world.turn()
    assert all(isinstance(one, Credit) for one in world.received)


def test_input_for_a_program_that_is_gone_is_swallowed(world: World) -> None:
    os.close(world.ours.pop(0))
    for _ in range(4):
        world.send(Stream.INPUT, bytes(WINDOW_BYTES // 2))
        world.turn()
    assert sum(one.count for one in world.received if isinstance(one, Credit)) == 2 * WINDOW_BYTES


def test_output_that_somebody_else_holds_open_ends_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [boottime()]
    monkeypatch.setattr(ports, "boottime", lambda: now[0])
    world.end()
    now[0] += 60  # what was before the end does not count
    world.turn()
    assert not world.call.is_over
    now[0] += ports.DRAIN_SECONDS
    world.turn()
    assert world.received[-1] == Reply(msgid=1, outcome=(3, 0))


def test_file_is_read_to_its_end_and_counted(tmp_path: Path) -> None:
    world = World("copy")
    path = tmp_path / "file"
    path.write_bytes(bytes(40_000))
    world.open_file(path, Flow.OUTPUT)
    world.turn()
    assert sum(len(one.content) for one in world.received if isinstance(one, Data)) == 40_000
    assert world.received[-1] == Reply(msgid=1, outcome=(40_000,))
    world.close()


def test_file_is_written_until_the_client_says_so(tmp_path: Path) -> None:
    world = World("copy")
    world.open_file(tmp_path / "file", Flow.INPUT)
    world.send(Stream.INPUT, b"content")
    assert world.turn() == []
    world.send(Stream.INPUT, b"")
    assert world.turn() == [Reply(msgid=1, outcome=(7,))]
    assert (tmp_path / "file").read_bytes() == b"content"
    world.close()


def test_end_of_a_file_that_is_written_already_is_not_waited_for(tmp_path: Path) -> None:
    world = World("copy")
    call = world.open_file(tmp_path / "file", Flow.INPUT)
    world.send(Stream.INPUT, b"content")
    assert world.turn() == []
    world.send(Stream.INPUT, b"")
    assert call.is_ending  # no descriptor is left that could wake anybody
    assert world.turn() == [Reply(msgid=1, outcome=(7,))]
    world.close()


def test_file_beyond_the_cap_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "MAX_COPY_BYTES", 10)
    world = World("copy")
    world.open_file(tmp_path / "file", Flow.INPUT)
    world.send(Stream.INPUT, bytes(11))
    (reply,) = world.turn()
    assert isinstance(reply, Reply)
    assert isinstance(reply.outcome, Refused)
    assert reply.outcome.reason == "owner.copy_size"
    world.close()


def open_error(flow: Flow) -> int:
    """A file that every read, or every write, of fails: with EIO, as a disk does, or when full."""
    if flow is Flow.OUTPUT:
        return os.open("/proc/self/mem", os.O_RDONLY)  # nothing is mapped at 0
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize(
    ("flow", "why"), [(Flow.OUTPUT, "errno 5 (EIO)"), (Flow.INPUT, "errno 28 (ENOSPC)")]
)
def test_file_that_fails_is_a_refusal_and_no_shorter_file(flow: Flow, why: str) -> None:
    before = count_descriptors()
    world = World("copy")
    world.take_file(open_error(flow), flow)
    if flow is Flow.INPUT:
        world.send(Stream.INPUT, b"content")
    refused = Refused(code=RpcError.FAILED, reason="owner.copy", detail=why)
    assert world.turn() == [Reply(msgid=1, outcome=refused)]
    assert world.call.is_over
    world.close()
    assert count_descriptors() == before


@pytest.fixture
def terminal() -> Iterator[World]:
    """A call on a terminal: `ours` is the program's end of it, and the pipe of the end."""
    before = count_descriptors()
    made = World()
    master, slave = os.openpty()
    tty.setraw(slave)
    end, writer = os.pipe()
    made.ours = [slave, writer]
    named = (
        Port(flow=Flow.INPUT, fd=Stream.INPUT),
        Port(flow=Flow.OUTPUT, fd=Stream.OUTPUT),
        Port(flow=Flow.RESIZE, fd=Stream.RESIZE),
        Port(flow=Flow.END, fd=0),
    )
    made.call = OpenCall(made.event, named, (master, os.dup(master), os.dup(master), end))
    yield made
    made.close()
    assert count_descriptors() == before


def test_terminal_has_the_size_that_the_client_says(terminal: World) -> None:
    terminal.send(Stream.RESIZE, struct.pack(">HH", 50, 132))
    assert os.get_terminal_size(terminal.ours[0]) == (132, 50)
    for wrong in (b"", b"\0\1\0", bytes(5)):
        terminal.send(Stream.RESIZE, wrong)
    assert os.get_terminal_size(terminal.ours[0]) == (132, 50)


def test_sizes_cost_credit_like_everything_else(terminal: World) -> None:
    for _ in range(WINDOW_BYTES // 8 + 1):  # half of the window
        terminal.send(Stream.RESIZE, struct.pack(">HH", 24, 80))
    assert any(isinstance(one, Credit) for one in terminal.turn())


def test_program_without_a_terminal_is_not_resized(world: World) -> None:
    world.send(Stream.RESIZE, struct.pack(">HH", 24, 80))
    os.write(world.ours[1], b"alive")
    assert world.turn() == [Data(id=1, fd=1, content=b"alive")]


def test_terminal_that_its_program_has_left_is_the_end_of_its_output(terminal: World) -> None:
    terminal.send(Stream.INPUT, b"in")
    terminal.turn()
    assert os.read(terminal.ours[0], 64) == b"in"
    os.write(terminal.ours[0], b"out")
    assert terminal.turn() == [Data(id=1, fd=Stream.OUTPUT, content=b"out")]
    os.close(terminal.ours.pop(0))
    assert terminal.turn() == [Data(id=1, fd=Stream.OUTPUT, content=b"")]
    os.write(terminal.ours[0], wire.encode(GOOD))
    os.close(terminal.ours.pop(0))
    assert terminal.turn() == [Reply(msgid=1, outcome=(3, 0))]


def test_input_for_a_terminal_that_its_program_has_left_is_swallowed(terminal: World) -> None:
    os.close(terminal.ours.pop(0))
    for _ in range(2):
        terminal.send(Stream.INPUT, bytes(WINDOW_BYTES // 2))
        terminal.turn()
    assert sum(one.count for one in terminal.received if isinstance(one, Credit)) == WINDOW_BYTES
    os.write(terminal.ours[0], wire.encode(GOOD))
    os.close(terminal.ours.pop(0))
    assert terminal.turn() == [Reply(msgid=1, outcome=(3, 0))]


@pytest.mark.parametrize("flow", [Flow.INPUT, Flow.OUTPUT])
def test_file_beyond_the_cap_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Flow
) -> None:
    monkeypatch.setattr(ports, "MAX_COPY_BYTES", 10)
    for size, is_refused in ((10, False), (11, True)):
        world = World("copy")
        path = tmp_path / "file"
        path.write_bytes(bytes(size))
        world.open_file(path, flow)
        if flow is Flow.INPUT:
            world.send(Stream.INPUT, bytes(size))
            world.turn()
            world.send(Stream.INPUT, b"")
        world.turn()
        reply = world.received[-1]
        assert isinstance(reply, Reply)
        if is_refused:
            assert isinstance(reply.outcome, Refused)
            assert reply.outcome.reason == "owner.copy_size"
        else:
            assert reply.outcome == (10,)
        world.close()
