"""The pace of one call: what it waits for, what it moves at once, and what it leaves alone."""

import errno
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding import wire
from ccinit.formats.planes.owner_rpc import WINDOW_BYTES, Stream
from ccinit.formats.planes.owner_wire import Credit, Data, Reply, encode_credit
from ccinit.kernel.clock import boottime
from ccinit.owner import ports
from ccinit.owner.messages import MAX_END_BYTES, Flow
from tests.unit.ccinit.owner.ports_world import GOOD, World

REPLY = Reply(msgid=1, outcome=(3, 0))


@pytest.fixture
def program() -> Iterator[World]:
    """A call of a program with two outputs."""
    made = World()
    made.open_exec((Stream.OUTPUT, Stream.ERROR))
    yield made
    made.close()


def output_of(world: World, fd: int) -> bytes:
    return b"".join(one.content for one in world.received if isinstance(one, Data) and one.fd == fd)


def fill_window(world: World, but: int = 0) -> None:
    """Use up the client's credit, except for `but` bytes."""
    world.session.send(1, Stream.OUTPUT, bytes(WINDOW_BYTES - but))
    world.session.output.clear()


def events_waited_for(world: World) -> list[int]:
    return sorted(world.call.interests(world.session).values())


def test_only_what_can_be_moved_is_waited_for(program: World) -> None:
    outputs_and_end = [select.POLLIN] * 3
    assert events_waited_for(program) == outputs_and_end
    program.send(Stream.INPUT, b"some")
    assert events_waited_for(program) == [*outputs_and_end, select.POLLOUT]
    program.turn()
    assert events_waited_for(program) == outputs_and_end
    fill_window(program)
    assert events_waited_for(program) == [select.POLLIN]  # the end alone


def test_output_that_finds_no_room_left_in_its_turn_is_not_taken_for_ended(program: World) -> None:
    """The output before it has used up the room."""
    for descriptor, content in zip(program.ours[1:3], (b"out", b"error"), strict=True):
        os.write(descriptor, content)
    fill_window(program, but=3)
    program.turn()
    assert program.received == [Data(id=1, fd=Stream.OUTPUT, content=b"out")]
    list(program.session.feed(encode_credit(Credit(id=1, count=WINDOW_BYTES))))
    program.turn()
    assert program.received[1:] == [Data(id=1, fd=Stream.ERROR, content=b"error")]


def test_output_is_read_only_as_far_as_there_is_room(program: World) -> None:
    os.write(program.ours[1], b"output")
    fill_window(program, but=4)
    assert program.turn() == [Data(id=1, fd=Stream.OUTPUT, content=b"outp")]
    list(program.session.feed(encode_credit(Credit(id=1, count=WINDOW_BYTES))))
    assert program.turn() == [Data(id=1, fd=Stream.OUTPUT, content=b"ut")]


def test_output_with_much_to_say_leaves_room_for_the_other(program: World) -> None:
    os.write(program.ours[1], bytes(WINDOW_BYTES))
    os.write(program.ours[2], b"error")
    program.turn()
    assert output_of(program, Stream.ERROR) == b"error"
    assert len(output_of(program, Stream.OUTPUT)) == WINDOW_BYTES - len(b"error")


def test_input_that_a_pipe_takes_in_part_arrives_whole(program: World) -> None:
    page = 4096  # the room that the first leaves in the pipe
    first, second = bytes(WINDOW_BYTES - page), bytes(range(256)) * 32
    for content in (first, second):
        program.send(Stream.INPUT, content)
        program.turn()
    read = os.read(program.ours[0], WINDOW_BYTES)
    program.turn()
    assert read + os.read(program.ours[0], WINDOW_BYTES) == first + second


def test_descriptors_that_are_not_ready_after_all_are_left_alone(program: World) -> None:
    program.send(Stream.INPUT, bytes(WINDOW_BYTES))
    program.turn()
    program.send(Stream.INPUT, b"more")  # the pipe is full
    program.call.move(dict.fromkeys(program.theirs[:-1], select.POLLIN), program.session)
    program.turn()
    assert output_of(program, Stream.OUTPUT) == output_of(program, Stream.ERROR) == b""
    assert os.read(program.ours[0], 2 * WINDOW_BYTES) == bytes(WINDOW_BYTES)
    program.turn()
    assert os.read(program.ours[0], 2 * WINDOW_BYTES) == b"more"
    assert Data(id=1, fd=Stream.OUTPUT, content=b"") not in program.received


@pytest.mark.parametrize("name", ["read", "write"])
def test_error_of_a_pipe_is_not_taken_for_its_end(
    program: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    os.write(program.ours[1], b"output")
    program.send(Stream.INPUT, b"input")
    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="no memory"):
        program.turn()


def test_program_that_closes_all_its_streams_still_runs(program: World) -> None:
    program.send(Stream.INPUT, b"")
    for _ in range(2):
        os.close(program.ours.pop(1))
    program.turn()
    assert not program.call.is_over
    program.end()
    assert program.turn() == [REPLY]


def test_cap_of_a_copy_is_none_of_a_program(
    program: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "MAX_COPY_BYTES", 10)
    os.write(program.ours[1], bytes(11))
    program.send(Stream.INPUT, bytes(11))
    program.turn()
    program.send(Stream.INPUT, bytes(11))
    assert output_of(program, Stream.OUTPUT) == bytes(11)
    assert not program.call.is_ending


def test_end_may_arrive_in_pieces(program: World) -> None:
    for _ in range(2):
        os.close(program.ours.pop(1))
    encoded = wire.encode(GOOD)
    os.write(program.ours[-1], encoded[:5])
    program.turn()
    os.write(program.ours[-1], encoded[5:])
    program.turn()
    assert not program.call.is_ending
    os.close(program.ours.pop())
    assert program.turn() == [REPLY]


def test_end_that_never_stops_is_refused_at_its_cap(program: World) -> None:
    os.write(program.ours[-1], bytes(MAX_END_BYTES))
    program.turn()
    assert not program.call.is_ending
    os.write(program.ours[-1], b"\0")
    with pytest.raises(FormatError) as refused:
        program.turn()
    assert refused.value.reason == "wire.form"


def test_time_for_the_last_output_does_not_pass_while_the_client_gives_no_credit(
    program: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [boottime()]
    monkeypatch.setattr(ports, "boottime", lambda: now[0])
    fill_window(program)
    program.end()
    for _ in range(3):
        program.turn()
        now[0] += ports.DRAIN_SECONDS
    assert not program.call.is_over
    os.write(program.ours[1], b"last")
    list(program.session.feed(encode_credit(Credit(id=1, count=WINDOW_BYTES))))
    program.turn()
    assert program.received == [Data(id=1, fd=Stream.OUTPUT, content=b"last")]
    now[0] += ports.DRAIN_SECONDS
    assert program.turn() == [REPLY]


def test_size_of_a_terminal_is_no_input_of_its_program(program: World) -> None:
    program.send(Stream.RESIZE, struct.pack(">HH", 24, 80))
    program.send(Stream.INPUT, b"typed")
    program.turn()
    assert os.read(program.ours[0], 100) == b"typed"


def test_input_for_a_file_that_is_read_is_swallowed(tmp_path: Path) -> None:
    world = World("copy")
    (tmp_path / "file").write_bytes(b"content")
    world.open_file(tmp_path / "file", Flow.OUTPUT)
    world.send(Stream.INPUT, bytes(WINDOW_BYTES // 2))
    world.turn()
    assert world.received == [
        Credit(id=1, count=WINDOW_BYTES // 2),
        Data(id=1, fd=Stream.OUTPUT, content=b"content"),
        Data(id=1, fd=Stream.OUTPUT, content=b""),
        Reply(msgid=1, outcome=(7,)),
    ]
    world.close()
