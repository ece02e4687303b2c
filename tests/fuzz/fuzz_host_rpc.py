"""Invariant: whatever a host writes to its guest is the same requests in any pieces, or a
`FormatError`, each answered by a reply of its method's size; and whatever a guest answers is a
value of the schema or a `CcinitError`.

Run as `python -m tests.fuzz.fuzz_host_rpc [SECONDS [SEED]]`.
"""

import contextlib
import random
import socket
import struct
from collections.abc import Callable, Mapping

import msgpack  # type: ignore[import-untyped]
from msgpack.fallback import Unpacker  # type: ignore[import-untyped]

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.planes.host_rpc import (
    METHODS,
    REPLY_BYTES,
    Method,
    Phase,
    RpcError,
    Value,
)
from ccinit.formats.planes.msgpack_rpc import (
    Request,
    RequestReader,
    encode_error,
    encode_request,
    encode_result,
)
from ccinit.rpc.dispatch import Refusal, answer
from host_runtime.plane.rpc_client import GuestClient
from tests.fakes.machine.no_waiting import finish
from tests.fuzz.trials import Trials, run

ADDRESS = bytes(10) + b"\xff\xff\x0a\x00\x02\x0f"
PARAMETERS: Mapping[str, tuple[Value, ...]] = {
    "hello": (1,),
    "wait": (3, 1000),
    "offer_network": (b"\x52\x54\0\0\0\1", ADDRESS, 24, ADDRESS, 1500, (ADDRESS, ADDRESS)),
    "stop": (10,),
    "collect": (1 << 40, 0),
}
RESULTS: Mapping[str, tuple[Value, ...]] = {
    "hello": (1, bytes(16)),
    "state": (11, 0, 3, 0),
    "wait": (11, 0, 4, 1),
    "metrics": (16, 8, 2),
    "exit": (7,),
    "collect": (5, True, b"bytes"),
}
REQUESTS = tuple(
    encode_request(msgid, name, PARAMETERS.get(name, ()))
    for msgid, name in enumerate((*METHODS, "unknown"))
)
NOISE = (
    *(b"\xc0", b"\xc1", b"\xc3", b"\x80", b"\x81\x01\x01", b"\xca\0\0\0\0", b"\xd4\x01\0", b"\x90"),
    *(b"\x94", b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xcf" * 9),
    *(b"\xc6\0\0\x0f\xff", b"\xd9\x01\xff", b"\x91" * 40, b"\xcc\x05", b"\xd3" + b"\xff" * 8),
)
CALLS: tuple[tuple[str, Callable[[GuestClient], object]], ...] = (
    ("hello", GuestClient.hello),
    ("state", GuestClient.state),
    ("metrics", GuestClient.metrics),
    ("exit", GuestClient.exit_code),
    ("collect", lambda client: list(client.collect(follow=False))),
)


class Service:
    """Answers by chance."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    @property
    def phase(self) -> Phase:
        return self._source.choice(tuple(Phase))

    async def call(self, method: Method, params: tuple[Value, ...]) -> tuple[Value, ...]:
        assert len(params) == len(method.params)
        if not self._source.randrange(4):
            raise Refusal(self._source.choice(tuple(RpcError)))
        return RESULTS.get(method.name, ())

    def take_over(self, connection: socket.socket) -> None:
        raise AssertionError(connection)


def read(data: bytes, cuts: list[int]) -> tuple[list[Request], bool]:
    """Return the requests in a stream that comes in pieces, and whether it broke."""
    reader, found = RequestReader(), []
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            for request in reader.feed(data[start:end]):
                found.append(request)  # noqa: PERF402  # also of a piece that then breaks
    except FormatError as error:
        refused = error
    else:
        return found, False
    assert refused.reason == "rpc.request", refused
    return found, True


def other_reader(data: bytes) -> list[object]:
    """Return the values at the start of a stream as msgpack's reader in Python has them."""
    unpacker = Unpacker(raw=False, use_list=False, strict_map_key=False, max_buffer_size=1 << 20)
    unpacker.feed(data)
    values = []
    with contextlib.suppress(ValueError, TypeError, RecursionError, msgpack.UnpackException):
        while True:
            values.append(unpacker.unpack())
    return values


def check_requests(source: random.Random, data: bytes) -> int:
    """Check the first invariant; return how many requests were in the stream."""
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(5)))
    found, is_broken = read(data, cuts)
    assert read(data, list(range(1, len(data)))) == (found, is_broken)
    others = other_reader(data)
    assert [(0, one.msgid, one.method, one.params) for one in found] == others[: len(found)]
    for request in found:
        method = METHODS.get(request.method)
        reply = finish(answer(request, Service(source))).data
        assert len(reply) == (REPLY_BYTES if method is None else method.reply_bytes)
        assert msgpack.unpackb(reply)[:2] == [1, request.msgid]
    return len(found)


def check_reply(source: random.Random) -> bool:
    """Check the second invariant; return whether the call succeeded."""
    name, call = source.choice(CALLS)
    method = METHODS[name]
    reply = encode_result(1, method, RESULTS[name])
    match source.randrange(8):
        case 0:
            reply = encode_error(1, method.reply_bytes, source.choice(tuple(RpcError)))
        case 1:
            pass
        case _:
            reply = mutate(source, reply, 20)[: method.reply_bytes].ljust(method.reply_bytes, b"\0")
    client_end, guest = socket.socketpair()
    with guest, GuestClient(lambda: client_end) as client, contextlib.suppress(CcinitError):
        guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        guest.sendall(reply)
        guest.shutdown(socket.SHUT_WR)
        call(client)
        return True
    return False


def mutate(source: random.Random, seed: bytes, head_bytes: int) -> bytes:
    """Change some bytes, mostly of the head."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(min(len(data), head_bytes) + 1)
        match source.randrange(4):
            case 0:
                data[spot:spot] = source.choice(NOISE)
            case 1:
                del data[spot : spot + source.randrange(1, 6)]
            case 2:
                data[spot : spot + 4] = struct.pack(">I", source.choice((0, 1, 0xFFFFFFFF)))
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check streams for a while; return how many."""
    trials = Trials(seconds, seed)
    assert check_requests(trials.source, b"".join(REQUESTS)) == len(REQUESTS)
    found = answered = 0
    for source in trials:
        data = b"".join(source.choices(REQUESTS, k=source.randrange(1, 4)))
        found += check_requests(source, mutate(source, data, len(data)))
        answered += check_reply(source)
    trials.require(found, one_in=5)
    trials.require(answered, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
