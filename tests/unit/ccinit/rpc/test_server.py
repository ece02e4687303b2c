"""The server against hostile peers, over socket pairs; limits are shortened, rules are not."""

import socket
from collections.abc import Callable, Coroutine

import msgpack  # type: ignore[import-untyped]
import pytest

from ccinit.formats.planes.host_rpc import METHODS, Method, Phase, RpcError, Value
from ccinit.formats.planes.msgpack_rpc import MAX_REQUEST_BYTES, ReplyReader, encode_request
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import EventLoop, deadline
from ccinit.kernel.task import Event, readable, sleep
from ccinit.rpc.dispatch import Refusal
from ccinit.rpc.server import RpcLimits, serve
from ccinit.values import replace

LIMITS = RpcLimits(connections=2, request_seconds=60.0, reply_seconds=60.0)
HASTY = RpcLimits(connections=2, request_seconds=0.1, reply_seconds=60.0)
STATE = METHODS["state"]


class Service:
    """Answers `state`, holds `wait` open until told, refuses `stop`."""

    def __init__(self) -> None:
        self.phase = Phase.RUN
        self.calls: list[str] = []
        self.release = Event()
        self.taken: list[socket.socket] = []

    def take_over(self, connection: socket.socket) -> None:
        self.taken.append(connection)

    async def call(self, method: Method, _params: tuple[Value, ...]) -> tuple[Value, ...]:
        self.calls.append(method.name)
        if method.name == "stop":
            raise Refusal(RpcError.DENIED)
        if method.name == "wait":
            await self.release.wait()
        if method.name == "collect":
            return 0, False, bytes(65536)
        if method.name == "relay":
            return ()
        return (1, 2, 3, 0)


class Host:
    """Makes connections to a running server."""

    def __init__(self) -> None:
        self.service = Service()
        self._waiting: list[tuple[socket.socket, int]] = []
        self._arrived = Event()
        self.peers: list[socket.socket] = []

    async def accept(self) -> tuple[socket.socket, int]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.pop(0)

    def connect(self, cid: int = 2) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003  # positional only
        theirs.setblocking(False)  # noqa: FBT003  # positional only
        self._waiting.append((theirs, cid))
        self._arrived.set()
        self.peers.append(ours)
        return ours


async def receive(peer: socket.socket, count: int = 64) -> bytes:
    data = b""
    async with deadline(60, "test"):
        while len(data) < count:
            await readable(peer.fileno())
            try:
                piece = peer.recv(count - len(data))
            except ConnectionResetError:  # closed with our bytes unread
                break
            if not piece:
                break
            data += piece
    return data


def run(test: Callable[[Host], Coroutine[object, None, None]], limits: RpcLimits = LIMITS) -> Host:
    host, loop = Host(), EventLoop()

    async def main() -> None:
        server = loop.start(serve(host.accept, host.service, limits), "server")
        try:
            await test(host)
        finally:
            await server.stop()
            for peer in host.peers:
                peer.close()

    loop.run(main())
    return host


def ask(method: str, *params: Value, msgid: int = 7) -> bytes:
    return encode_request(msgid, method, params)


def error_of(data: bytes) -> int:
    _, _, error, result = msgpack.unpackb(data)
    assert result is None
    return int(error[0])


def test_server_answers_a_request_and_echoes_its_msgid() -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.send(ask("state", msgid=99))
        reply = ReplyReader(STATE).feed(await receive(peer))
        assert reply is not None
        assert (reply.msgid, reply.result) == (99, (1, 2, 3, 0))

    assert run(test).service.calls == ["state"]


def test_server_answers_requests_of_one_segment_in_order() -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.send(ask("state", msgid=1) + ask("state", msgid=2))
        data = await receive(peer, 128)
        assert [msgpack.unpackb(data[i : i + 64])[1] for i in (0, 64)] == [1, 2]

    run(test)


def test_server_answers_more_requests_than_it_reads_at_once() -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        ahead = b"".join(ask("state", msgid=msgid) for msgid in range(1000))
        assert peer.send(ahead) == len(ahead) > 2 * MAX_REQUEST_BYTES
        data = await receive(peer, 64_000)
        assert [msgpack.unpackb(data[i : i + 64])[1] for i in range(0, 64_000, 64)] == [
            *range(1000)
        ]

    run(test)


def test_server_hands_a_relayed_connection_over_behind_the_reply() -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.send(ask("relay"))
        assert ReplyReader(METHODS["relay"]).feed(await receive(peer)) is not None
        (taken,) = host.service.taken
        with taken:
            taken.send(b"raw bytes")
            assert await receive(peer, 9) == b"raw bytes"

    run(test)


@pytest.mark.parametrize("early", [b"x", ask("state")], ids=["bytes", "request"])
def test_server_closes_a_relay_whose_peer_did_not_wait_for_the_reply(early: bytes) -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.send(ask("relay") + early)
        await receive(peer)
        assert await receive(peer, 1) == b""
        assert host.service.taken == []

    run(test)


@pytest.mark.parametrize("cid", [1, 3, 0xFFFF_FFFF])
def test_r85_server_closes_a_peer_that_is_not_the_host_unread(cid: int) -> None:
    async def test(host: Host) -> None:
        peer = host.connect(cid)
        peer.send(ask("state"))
        assert await receive(peer) == b""

    assert run(test).service.calls == []


@pytest.mark.parametrize(
    ("request_bytes", "error"),
    [
        pytest.param(ask("exec"), RpcError.BADREQ, id="unknown-method"),
        pytest.param(ask("state", 1), RpcError.BADREQ, id="wrong-params"),
        pytest.param(ask("stop", 1 << 16), RpcError.BADREQ, id="param-too-wide"),
        pytest.param(
            ask("offer_network", bytes(6), bytes(16), 24, bytes(16), 1500, ()),
            RpcError.NOT_NOW,
            id="wrong-phase",
        ),
        pytest.param(ask("stop", 1), RpcError.DENIED, id="refused-by-the-service"),
    ],
)
def test_server_refuses_with_a_code_and_keeps_the_connection(
    request_bytes: bytes, error: RpcError
) -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.send(request_bytes)
        assert error_of(await receive(peer)) == error
        peer.send(ask("state"))
        assert len(await receive(peer)) == 64

    run(test)


@pytest.mark.parametrize(
    "garbage",
    [b"\xc1", b"GET / HTTP/1.1\r\n\r\n", msgpack.packb({"a": 1}), b"\xdd\xff\xff\xff\xff"],
)
def test_server_closes_a_connection_that_breaks_the_framing(garbage: bytes) -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.send(garbage)
        assert await receive(peer) == b""

    assert run(test).service.calls == []


def test_server_closes_an_unfinished_request_after_its_time_but_not_an_idle_peer() -> None:
    async def test(host: Host) -> None:
        idle, slow = host.connect(), host.connect()
        slow.send(ask("state")[:-1])
        assert await receive(slow) == b""
        idle.send(ask("state"))
        assert len(await receive(idle)) == 64

    run(test, HASTY)


def test_r81_server_closes_a_request_that_comes_byte_by_byte_after_the_same_time() -> None:
    async def drip(peer: socket.socket) -> None:
        for byte in ask("offer_network", *([bytes(16)] * 20)):
            peer.send(bytes((byte,)))
            await sleep(0.03)

    async def test(host: Host) -> None:
        with pytest.raises(BrokenPipeError):
            await drip(host.connect())

    run(test, HASTY)


def test_server_gives_each_of_many_requests_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    for module in ("kernel.event_loop", "rpc.server"):
        monkeypatch.setattr(f"ccinit.{module}.boottime", lambda: boottime() + passed[0])

    async def test(host: Host) -> None:
        peer, state = host.connect(), ask("state")
        peer.send(state[:4])
        await sleep(0.05)  # until it has been read, and the rest is waited for
        for _ in range(4):
            passed[0] += 0.6 * LIMITS.request_seconds
            peer.send(state[4:] + state[:4])
            assert len(await receive(peer)) == 64

    run(test)


def test_server_closes_a_peer_that_does_not_take_its_reply() -> None:
    async def test(host: Host) -> None:
        peer = host.connect()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(40):
            peer.send(ask("collect", 0, 0))
        await sleep(0.5)
        assert len(await receive(peer, 40 * 65_664)) < 40 * 65_664

    run(test, replace(LIMITS, reply_seconds=0.1))


def test_server_closes_connections_above_its_limit_and_takes_new_ones_later() -> None:
    async def test(host: Host) -> None:
        first, second, third = (host.connect() for _ in range(3))
        assert await receive(third) == b""
        first.close()
        await sleep(0.05)
        fourth = host.connect()
        for peer in (second, fourth):
            peer.send(ask("state"))
            assert len(await receive(peer)) == 64
        assert await receive(host.connect()) == b""

    run(test)


def test_server_answers_others_while_a_call_waits() -> None:
    async def test(host: Host) -> None:
        waiting, other = host.connect(), host.connect()
        waiting.send(ask("wait", 3, 60_000))
        await sleep(0.05)
        other.send(ask("state"))
        assert len(await receive(other)) == 64
        host.service.release.set()
        assert len(await receive(waiting)) == 64

    run(test)


def test_r86_server_survives_a_peer_that_leaves_in_the_middle_of_a_call() -> None:
    async def test(host: Host) -> None:
        leaving = host.connect()
        leaving.send(ask("wait", 3, 60_000))
        await sleep(0.05)
        leaving.close()
        host.service.release.set()
        await sleep(0.05)
        peer = host.connect()
        peer.send(ask("state"))
        assert len(await receive(peer)) == 64

    run(test)
