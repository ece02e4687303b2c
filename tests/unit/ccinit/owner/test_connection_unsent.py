"""One client's connection while seconds pass: what it has not taken yet is kept for it."""

import os
import socket
import time
from types import ModuleType

import pytest

from ccinit.formats.encoding import wire
from ccinit.formats.planes.owner_rpc import METHODS, Stream
from ccinit.formats.planes.owner_wire import (
    Data,
    Reply,
    encode_reply,
    encode_result,
)
from ccinit.owner import connection as module
from ccinit.owner import ports as module_of_ports
from ccinit.owner.connection import Connection
from ccinit.owner.messages import CallAnswer, CallEnd, Flow, Port
from ccinit.owner.ports import OpenCall
from ccinit.owner.session import Call
from tests.unit.ccinit.owner.connection_world import LARGE, World, request


def seconds_pass(monkeypatch: pytest.MonkeyPatch, where: ModuleType = module) -> list[float]:
    """Let a second pass with every look at the clock; return what it shows, from 1000 on."""
    now = [1000.0]

    def later() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(where, "boottime", later)
    return now


def test_client_that_takes_little_at_a_time_is_served_to_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_some(_connection: Connection) -> float:
        world.take(4096)
        return 0.001

    now = seconds_pass(monkeypatch)
    monkeypatch.setattr(Connection, "_poll_seconds", take_some)
    world.answer = (CallAnswer(end=CallEnd(result=LARGE)), ())
    world.tls.pieces = [request(1), request(2)]
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits = {"message_seconds": 10.0, "sending_seconds": 6.0, "pending_bytes": 4096}
    world.serve()
    assert now[0] > 1000.0 + 2 * 6.0
    outcome = (bytes(32 << 10),)
    assert world.replies() == [Reply(msgid=msgid, outcome=outcome) for msgid in (1, 2)]


def test_socket_that_takes_more_is_not_read_from_before_it_has_taken_enough(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whoever takes a part of each answer could have the guest keep the rest of all of them."""
    untaken: list[int] = []

    def take_some(_connection: Connection) -> float:
        world.take(8192)
        return 0.001

    def carry(_call: Call, _wait: object) -> tuple[CallAnswer, tuple[int, ...]]:
        untaken.append(len(untaken) * len(encode_reply(1, LARGE)) - len(world.received))
        return CallAnswer(end=CallEnd(result=LARGE)), ()

    monkeypatch.setattr(Connection, "_poll_seconds", take_some)
    monkeypatch.setattr(world, "carry", carry)
    world.tls.pieces = [request(1)] * 8
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits = {"pending_bytes": 4096}
    world.serve()
    assert len(untaken) == 8
    assert max(untaken) <= world.limits["pending_bytes"] + (16 << 10)  # those are in the socket


def test_output_is_whole_however_long_the_client_does_not_take_what_it_was_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is read from it, an output is not one that has fallen silent."""
    result = encode_result(METHODS["attach"], ())
    content = bytes(48 << 10)
    (output, writer), (end, ender) = os.pipe(), os.pipe()
    os.write(writer, content)
    os.write(ender, wire.encode(CallEnd(result=result)))
    for descriptor in (writer, ender):
        os.close(descriptor)
    ports = (Port(flow=Flow.OUTPUT, fd=Stream.OUTPUT), Port(flow=Flow.END, fd=0))
    world.answer = (CallAnswer(end=None, ports=ports), (output, end))

    def take_some(_connection: Connection) -> float:
        world.take(4096)
        if world.received.endswith(encode_reply(1, result)):
            world.tls.closes = True
            world.tls.start()
        return 0.001

    seconds_pass(monkeypatch, module_of_ports)
    monkeypatch.setattr(Connection, "_poll_seconds", take_some)
    world.tls.pieces, world.tls.closes = [request(1, "attach", "web")], False
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits = {"pending_bytes": 4096}
    world.serve()
    *pieces, _, reply = world.replies()
    assert b"".join(piece.content for piece in pieces if isinstance(piece, Data)) == content
    assert reply == Reply(msgid=1, outcome=())


def test_call_whose_output_is_held_open_ends_soon_after_its_program(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a daemon that the program has left, say; nothing else happens on the connection."""
    result = encode_result(METHODS["attach"], ())
    (output, writer), (end, ender) = os.pipe(), os.pipe()
    os.write(ender, wire.encode(CallEnd(result=result)))
    os.close(ender)
    ports = (Port(flow=Flow.OUTPUT, fd=Stream.OUTPUT), Port(flow=Flow.END, fd=0))
    world.answer = (CallAnswer(end=None, ports=ports), (output, end))
    world.tls.pieces, world.tls.closes = [request(1, "attach", "web")], False
    close, begun = OpenCall.close, time.monotonic()

    def close_with_the_connection(call: OpenCall) -> None:
        close(call)
        world.tls.closes = True
        world.tls.start()

    monkeypatch.setattr(OpenCall, "close", close_with_the_connection)
    monkeypatch.setattr(module_of_ports, "DRAIN_SECONDS", 0.3)
    world.serve()
    os.close(writer)
    assert world.replies() == [Reply(msgid=1, outcome=())]
    assert time.monotonic() - begun < world.limits["message_seconds"] / 2


def test_message_that_is_not_read_on_has_no_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rest waits in the socket for as long as the client does not take what it was sent."""
    seconds_pass(monkeypatch)
    world.answer = (CallAnswer(end=CallEnd(result=LARGE)), ())
    world.tls.pieces = [request(1) + request(2)[:4], request(2)[4:]]
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits = {"message_seconds": 10.0, "sending_seconds": 20.0, "pending_bytes": 4096}
    monkeypatch.setattr(Connection, "_poll_seconds", lambda _connection: 0.001)
    assert world.deadline() == "owner.sending"
    assert world.carried == ["metrics"]
