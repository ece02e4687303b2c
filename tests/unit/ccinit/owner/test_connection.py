"""The loop of one client's connection: what it is waited for, and what is left."""

import os
import socket
import threading
import time

import pytest

from ccinit.errors import FormatError, PeerError
from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import Stream
from ccinit.formats.planes.owner_wire import (
    Refused,
    Reply,
    encode_reply,
)
from ccinit.owner import connection as module
from ccinit.owner.connection import Connection
from ccinit.owner.messages import CallAnswer, CallEnd, Flow, Port
from tests.fakes.machine.scarcity import count_descriptors
from tests.unit.ccinit.owner.connection_world import LARGE, World, request

LOOK_SECONDS = 0.02
"""For a message; deadlines are looked at as often, if nothing else happens."""


def serve_client_that_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.tls, "close", lambda: world.tls.write(b"the end"))
    world.tls.start()
    world.client.close()
    world.connection().serve()


def test_client_that_breaks_a_rule_and_is_gone_ends_by_that_rule(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tls.pieces, world.tls.closes = [b"\xc0"], False
    with pytest.raises(FormatError) as ended:
        serve_client_that_is_gone(world, monkeypatch)
    assert ended.value.reason == "owner.message"


def test_client_that_is_gone_when_it_has_said_so_has_broken_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_client_that_is_gone(world, monkeypatch)


def test_socket_that_breaks_is_the_clients_end(world: World) -> None:
    world.answer = (CallAnswer(end=CallEnd(result=LARGE)), ())
    world.tls.pieces, world.tls.closes = [request()], False
    world.tls.start()
    world.client.close()
    with pytest.raises(PeerError) as ended:
        world.connection().serve()
    assert ended.value.reason == "net.closed"


def test_calls_are_carried_out_in_their_order_until_the_client_closes(world: World) -> None:
    world.tls.pieces = [request(1) + request(2, "rotate"), request(3)[:4], request(3)[4:]]
    world.serve()
    assert world.carried == ["metrics", "rotate", "metrics"]
    refused = Refused(code=RpcError.DENIED, reason="owner.allow", detail="no")
    assert world.replies() == [Reply(msgid=msgid, outcome=refused) for msgid in (1, 2, 3)]
    assert world.tls.is_closed


def test_client_is_sent_the_end_of_the_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it could not tell that the host has cut off what was left."""
    monkeypatch.setattr(world.tls, "close", lambda: world.tls.write(b"close_notify"))
    world.serve()
    assert world.client.recv(64) == b"close_notify"


def test_message_that_is_begun_and_not_ended_ends_the_connection(world: World) -> None:
    world.limits["message_seconds"] = LOOK_SECONDS
    world.tls.pieces, world.tls.closes = [request()[:-1]], False
    assert world.deadline() == "owner.message"
    assert (world.carried, world.tls.is_closed) == ([], True)


def pass_seconds_between_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let four seconds pass before each piece of what the client sends."""
    now = [1000.0]

    def start() -> None:
        now[0] += 4.0
        world.client.send(b"!")

    monkeypatch.setattr(module, "boottime", lambda: now[0])
    monkeypatch.setattr(world.tls, "start", start)
    world.limits["message_seconds"] = 10.0


def test_message_that_comes_in_many_pieces_has_no_more_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_seconds_between_pieces(world, monkeypatch)
    world.tls.pieces = [bytes([byte]) for byte in request()]
    assert world.deadline() == "owner.message"


def test_each_of_many_messages_has_its_own_time_and_none_is_silence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every piece ends within a message, as those of a busy client may."""
    pass_seconds_between_pieces(world, monkeypatch)
    world.limits["idle_seconds"] = 10.0
    stream = b"".join(request(number) for number in range(5))
    cuts = [4 + number * len(request()) for number in range(5)]
    bounds = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    pieces = [stream[start:end] for start, end in bounds]
    assert b"" not in pieces
    world.tls.pieces = pieces
    world.serve()
    assert len(world.carried) == 5


def test_client_without_a_call_is_left_alone_for_a_while_only(world: World) -> None:
    world.tls.closes = False
    world.limits |= {"idle_seconds": 0.05, "message_seconds": LOOK_SECONDS}
    assert world.deadline() == "owner.idle"
    assert world.tls.is_closed


def test_client_that_sends_and_never_calls_is_without_a_call(world: World) -> None:
    world.tls.drips = 100_000
    world.limits |= {"idle_seconds": 0.05, "message_seconds": LOOK_SECONDS}
    assert world.deadline() == "owner.idle"


def count_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the longest duration of each wait."""
    waits, choose = list[float](), Connection._poll_seconds

    def count(connection: Connection) -> float:
        waits.append(choose(connection))
        return waits[-1]

    monkeypatch.setattr(Connection, "_poll_seconds", count)
    return waits


def test_client_that_says_nothing_keeps_nobody_busy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = count_waits(monkeypatch)
    world.tls.closes = False
    world.limits |= {"idle_seconds": 0.05, "message_seconds": LOOK_SECONDS}
    assert world.deadline() == "owner.idle"
    assert len(waits) < 10


def test_client_that_takes_nothing_keeps_nobody_busy_however_much_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = count_waits(monkeypatch)
    output, writer = os.pipe()
    os.write(writer, bytes(48 << 10))
    ports = (Port(flow=Flow.OUTPUT, fd=Stream.OUTPUT),)
    world.answer = (CallAnswer(end=None, ports=ports), (output,))
    world.tls.pieces, world.tls.closes = [request(1, "attach", "web")], False
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    limits = {"sending_seconds": 0.05, "pending_bytes": 4096, "message_seconds": LOOK_SECONDS}
    world.limits |= limits
    assert world.deadline() == "owner.sending"
    os.close(writer)
    assert len(waits) < 20


def test_client_that_takes_again_is_served_before_a_deadline_is_looked_at(world: World) -> None:
    def take() -> None:
        time.sleep(0.1)  # until nothing more fits
        while data := world.client.recv(1 << 20):
            world.received += data

    world.client.setblocking(True)  # noqa: FBT003 (positional only)
    world.answer = (CallAnswer(end=CallEnd(result=LARGE)), ())
    world.tls.pieces = [request()]
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits = {"message_seconds": 60.0, "sending_seconds": 30.0, "pending_bytes": 4096}
    client = threading.Thread(target=take)
    client.start()
    try:
        world.serve()
    finally:
        world.guest.close()
        client.join(60)
    assert world.carried == ["metrics"]


def test_client_with_a_call_may_be_silent_and_its_descriptors_are_closed_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_descriptors()
    ends = os.pipe(), os.pipe()
    ports = (Port(flow=Flow.OUTPUT, fd=Stream.OUTPUT), Port(flow=Flow.END, fd=0))
    world.answer = (CallAnswer(end=None, ports=ports), tuple(reader for reader, _ in ends))
    world.tls.pieces = [request(1, "attach", "web")]
    now, turns = [1000.0], [0]

    def later() -> float:
        now[0] += 100.0
        return now[0]

    def close_in_the_end(_connection: Connection) -> float:
        turns[0] += 1
        if turns[0] == 20:
            world.tls.closes = True
            world.tls.start()
        return 0.001

    monkeypatch.setattr(module, "boottime", later)
    monkeypatch.setattr(Connection, "_poll_seconds", close_in_the_end)
    world.tls.closes = False
    world.serve()
    assert world.carried == ["attach"]
    for _, writer in ends:
        os.close(writer)
    assert count_descriptors() == before


def test_call_that_is_over_leaves_no_descriptor_while_the_connection_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_descriptors()
    reader, writer = os.pipe()
    os.write(writer, wire.encode(CallEnd(code=RpcError.FAILED, reason="run.exec", detail="")))
    os.close(writer)
    ports = (Port(flow=Flow.END, fd=0), Port(flow=Flow.INPUT, fd=Stream.INPUT))
    world.answer = (CallAnswer(end=None, ports=ports), (reader, os.open(os.devnull, os.O_WRONLY)))
    world.tls.pieces = [request(1, "attach", "web")]
    open_then: list[int] = []

    def close_in_the_end(_connection: Connection) -> float:
        open_then.append(count_descriptors())
        if len(open_then) == 20:
            world.tls.closes = True
            world.tls.start()
        return 0.001

    monkeypatch.setattr(Connection, "_poll_seconds", close_in_the_end)
    world.tls.closes = False
    world.serve()
    assert world.carried == ["attach"]
    assert open_then[-1] == before


def test_client_that_does_not_take_what_it_was_sent_is_not_read_and_then_left(
    world: World,
) -> None:
    world.answer = (CallAnswer(end=CallEnd(result=LARGE)), ())
    world.tls.pieces = [request(1), request(2)]
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    limits = {"sending_seconds": 0.05, "pending_bytes": 4096, "message_seconds": LOOK_SECONDS}
    world.limits |= limits
    assert world.deadline() == "owner.sending"
    assert world.carried == ["metrics"]


def test_calls_that_came_at_once_wait_for_the_client_to_take_the_answers_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fit into one record: else its answers would fill this process's memory."""
    world.answer = (CallAnswer(end=CallEnd(result=LARGE)), ())
    world.tls.pieces = [b"".join(request(msgid) for msgid in range(1, 11))]
    world.guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.limits["pending_bytes"] = 4096
    carried_then: list[int] = []

    def take_late(_connection: Connection) -> float:
        carried_then.append(len(world.carried))
        if len(carried_then) > 5:
            world.take()
        if len(world.received) == 10 * len(encode_reply(1, LARGE)):
            world.tls.closes = True
            world.tls.start()
        return 0.001

    monkeypatch.setattr(Connection, "_poll_seconds", take_late)
    world.tls.closes = False
    world.serve()
    assert carried_then[:5] == [0, 1, 1, 1, 1]
    assert [reply.msgid for reply in world.replies() if isinstance(reply, Reply)] == [*range(1, 11)]
