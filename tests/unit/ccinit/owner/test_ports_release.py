"""A file that PID 1 wants closed: at once, last of all its pipe, and the client is told."""

import os
from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import WINDOW_BYTES, Stream
from ccinit.formats.planes.owner_wire import Data, Refused, Reply
from ccinit.owner.messages import CallEnd, Flow
from tests.fakes.machine.scarcity import count_descriptors
from tests.unit.ccinit.owner.ports_world import World

POD_ENDED = CallEnd(code=RpcError.FAILED, reason="owner.pod_ended", detail="it did")
TOLD = Reply(
    msgid=1, outcome=Refused(code=RpcError.FAILED, reason="owner.pod_ended", detail="it did")
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "file").write_bytes(bytes(2 * WINDOW_BYTES))
    return World("copy")


def open_file(world: World, tmp_path: Path, flow: Flow) -> None:
    world.open_file(tmp_path / "file", flow)
    if flow is Flow.INPUT:
        world.send(Stream.INPUT, b"begun")
    world.turn()
    assert not world.call.is_over


@pytest.mark.parametrize("flow", [Flow.INPUT, Flow.OUTPUT])
def test_copy_ends_where_it_is_and_its_client_is_told(
    world: World, tmp_path: Path, flow: Flow
) -> None:
    before = count_descriptors()
    open_file(world, tmp_path, flow)
    os.write(world.ours[0], wire.encode(POD_ENDED))  # and PID 1 keeps its end
    assert world.turn() == [TOLD]
    assert world.call.is_over
    os.write(world.ours[0], b"more")  # the client's answer has yet to be sent
    world.call.close()
    with pytest.raises(BrokenPipeError):  # closed, as PID 1 can see
        os.write(world.ours[0], b"more")
    world.close()
    assert count_descriptors() == before
    sent = sum(len(one.content) for one in world.received if isinstance(one, Data))
    assert sent == (WINDOW_BYTES if flow is Flow.OUTPUT else 0)


def test_pipe_is_closed_after_the_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = list[int](), os.close

    def note(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    open_file(world, tmp_path, Flow.INPUT)
    os.write(world.ours[0], wire.encode(POD_ENDED))
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", note)
        world.turn()
        assert closed == list(world.theirs[:1])
        world.call.close()
    assert closed == list(world.theirs)
    world.close()


def test_copy_whose_last_byte_has_been_moved_has_not_failed(world: World, tmp_path: Path) -> None:
    open_file(world, tmp_path, Flow.INPUT)
    world.send(Stream.INPUT, b"")
    assert world.call.is_ending
    os.write(world.ours[0], wire.encode(POD_ENDED))
    assert world.turn() == [Reply(msgid=1, outcome=(5,))]
    world.close()


def test_program_is_not_released_as_a_file_is(world: World) -> None:
    """Its output, which the client has yet to take, comes first."""
    program = World()
    program.open_exec()
    assert program.call.urgent_interests() == {}
    os.write(program.ours[1], b"last")
    os.close(program.ours.pop(1))
    program.end()
    program.call.release(dict.fromkeys(program.theirs, 1), program.session)
    assert not program.call.is_over
    assert [type(one) for one in program.turn()] == [Data, Data, Reply]
    program.close()
    assert not world.theirs


def test_pipe_that_pid_1_has_closed_without_a_word_is_an_error(
    world: World, tmp_path: Path
) -> None:
    open_file(world, tmp_path, Flow.OUTPUT)
    os.close(world.ours.pop())
    with pytest.raises(FormatError):
        world.turn()
    world.close()
