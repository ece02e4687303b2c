"""One client's connection while PID 1 wants a file closed: nothing that goes on can delay that."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import Stream
from ccinit.formats.planes.owner_wire import Refused, Reply
from ccinit.kernel.descriptor import close_all
from ccinit.owner.connection import Connection
from ccinit.owner.messages import CallAnswer, CallEnd, Flow, Port
from ccinit.owner.ports import OpenCall
from tests.fakes.machine.scarcity import count_descriptors
from tests.unit.ccinit.owner.connection_world import LARGE, REFUSED, World, request

POD_ENDED = CallEnd(code=RpcError.FAILED, reason="owner.pod_ended", detail="it did")
TOLD = Refused(code=RpcError.FAILED, reason="owner.pod_ended", detail="it did")
COPY = request(1, "copy", "web", "/data/new", True, 0o600)  # noqa: FBT003


def answer_copy(world: World, path: Path) -> int:
    """Have PID 1 answer a copy into this file; return its end of the pipe."""
    end, writer = os.pipe()
    ports = (Port(flow=Flow.INPUT, fd=Stream.INPUT), Port(flow=Flow.END, fd=0))
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    world.answer = (CallAnswer(end=None, ports=ports), (file, end))
    return writer


def require_closed(writer: int) -> None:
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"more")


def test_file_is_closed_while_pid_1_answers_another_call(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`open_debug`, say, whose answer comes once no file of the pod is open."""
    before = count_descriptors()
    writer, (answered, answer) = answer_copy(world, tmp_path / "new"), os.pipe()
    copying, refusing = world.answer, (CallAnswer(end=REFUSED), ())

    def answer_when_closed(wait_for: Callable[[int], None]) -> None:
        world.answer = copying
        if world.carried[-1] == "open_debug":
            os.write(writer, wire.encode(POD_ENDED))
            monkeypatch.setattr(Connection, "_send", send_and_answer)
            wait_for(answered)
            require_closed(writer)
            world.answer = refusing

    def send_and_answer(connection: Connection) -> None:
        send(connection)
        os.write(answer, b".")

    send = Connection._send
    monkeypatch.setattr(world, "wait", answer_when_closed)
    world.tls.pieces = [COPY + request(2, "open_debug")]
    world.serve()
    assert world.carried == ["copy", "open_debug"]
    refused = Refused(code=RpcError.DENIED, reason="owner.allow", detail="no")
    assert world.replies() == [Reply(msgid=1, outcome=TOLD), Reply(msgid=2, outcome=refused)]
    close_all((writer, answered, answer))
    assert count_descriptors() == before


def test_client_is_told_before_the_pipe_is_closed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind that, PID 1 may end the child."""
    writer, at_close = answer_copy(world, tmp_path / "new"), list[object]()
    os.write(writer, wire.encode(POD_ENDED))
    close = OpenCall.close

    def note(call: OpenCall) -> None:
        if call.is_over:
            at_close.extend(world.replies())
        close(call)

    monkeypatch.setattr(OpenCall, "close", note)
    world.tls.pieces = [COPY]
    world.serve()
    assert at_close == [Reply(msgid=1, outcome=TOLD)]
    os.close(writer)


def test_file_is_closed_while_the_client_takes_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_descriptors()
    writer = answer_copy(world, tmp_path / "new")
    copying = world.answer
    turns = [0]

    def choose_answer(_wait_for: Callable[[int], None]) -> None:
        is_copy = world.carried[-1] == "copy"
        world.answer = copying if is_copy else (CallAnswer(end=CallEnd(result=LARGE)), ())

    def tell_when_full(connection: Connection) -> float:
        turns[0] += 1
        if turns[0] == 3:
            assert connection._is_full()
            os.write(writer, wire.encode(POD_ENDED))
        if turns[0] == 6:
            require_closed(writer)
            assert connection._is_full()
            world.tls.closes = True
            world.tls.start()
        if turns[0] >= 6:
            world.take()
        return 0.001

    monkeypatch.setattr(world, "wait", choose_answer)
    monkeypatch.setattr(Connection, "_poll_seconds", tell_when_full)
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits["pending_bytes"] = 4096
    world.tls.pieces, world.tls.closes = [COPY + request(2)], False
    world.serve()
    outcomes = [(one.msgid, one.outcome) for one in world.replies() if isinstance(one, Reply)]
    assert outcomes == [(2, (bytes(32 << 10),)), (1, TOLD)]
    os.close(writer)
    assert count_descriptors() == before
