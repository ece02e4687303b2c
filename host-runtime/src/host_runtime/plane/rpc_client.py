"""The host plane's client: typed calls to a guest, each reply checked for size and shape.

The schema is `ccinit.formats.planes.host_rpc`, the framing `ccinit.formats.planes.msgpack_rpc`. A
guest is not trusted here either: a reply of another length or shape ends the connection. Which
socket leads to the guest is left to `host_runtime.plane.transport`.
"""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from ccinit.errors import ConfigError, DeadlineError, FormatError, PeerError
from ccinit.formats.planes.host_rpc import (
    MAX_WAIT_MS,
    METHODS,
    METRICS_UNIT_BYTES,
    PROTOCOL,
    Code,
    Method,
    Phase,
    RpcError,
    StateFlag,
    Value,
)
from ccinit.formats.planes.msgpack_rpc import Reply, ReplyReader, encode_request
from measured_boot.command_line.errors import describe_error

_CALL_SECONDS: Final = 15.0  # a guest under emulation may take seconds to be scheduled
_MSGID_MASK: Final = 0xFFFFFFFF
_PACE_SECONDS: Final = 0.1  # slows down a guest that keeps saying at once that it has nothing


class CallRefusedError(PeerError):
    """The guest understood a call and did not carry it out.

    Attributes:
        error: why, from the closed list of the host plane.
    """

    def __init__(self, method: str, error: RpcError) -> None:
        super().__init__(f"rpc.{error.name.lower()}", f"the guest refused {method}: {error.name}")
        self.error = error

    @property
    def is_for_now(self) -> bool:
        """Whether the same call may be carried out a little later."""
        return self.error in {RpcError.NOT_NOW, RpcError.BUSY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Which protocol version and which public image the guest is."""

    protocol: int
    build_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """The guest's phase and code, which every guest tells. `sequence` counts changes."""

    phase: Phase
    code: Code
    sequence: int
    is_debug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestMetrics:
    """Memory in bytes, in steps of 64 MiB, and the number of virtual processors."""

    total_bytes: int
    available_bytes: int
    vcpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOffer:
    """Addresses for the guest's one interface; IPv4 ones mapped into IPv6 (::ffff:a.b.c.d)."""

    mac: bytes
    address: bytes
    prefix: int
    gateway: bytes
    mtu: int
    dns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedChunk:
    """Bytes of the sealed stream; `next_cursor` is where the following ones begin."""

    next_cursor: int
    is_last: bool
    blob: bytes


class GuestClient:
    """Calls a guest over streams from `connect`; one call at a time, a context manager.

    A connection is opened at the first call and kept; after an error the next call opens another.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._stream: socket.socket | None = None
        self._msgid = 0

    def hello(self, seconds: float = 0.0) -> Hello:
        """Say hello; a guest that speaks another protocol version is refused.

        Args:
            seconds: how long it may take if that is longer than other calls may: a guest listens
                before it answers, and has much to do in between.

        Raises:
            PeerError: `rpc.protocol`.
        """
        extra_seconds = max(0.0, seconds - _CALL_SECONDS)
        number, build_id = self._call("hello", PROTOCOL, extra_seconds=extra_seconds)
        protocol = _integer(number)
        if protocol != PROTOCOL:
            raise PeerError("rpc.protocol", f"the guest speaks version {protocol}, not {PROTOCOL}")
        return Hello(protocol=PROTOCOL, build_id=_bytes(build_id))

    def state(self) -> GuestState:
        """Return where the guest is now."""
        return _parse_state(self._call("state"))

    def wait(self, sequence: int, milliseconds: int) -> GuestState:
        """Return the state once `sequence` is no longer current, or after `milliseconds`."""
        limit = min(milliseconds, MAX_WAIT_MS)
        return _parse_state(self._call("wait", sequence, limit, extra_seconds=limit / 1000))

    def offer_network(self, offer: NetworkOffer) -> None:
        """Offer addresses; the guest validates them and may refuse."""
        self._call(
            "offer_network",
            offer.mac,
            offer.address,
            offer.prefix,
            offer.gateway,
            offer.mtu,
            offer.dns,
        )

    def start(self) -> None:
        """Let a guest begin that was configured to wait for it."""
        self._call("start")

    def stop(self, grace_seconds: int) -> None:
        """Ask for an orderly end."""
        self._call("stop", grace_seconds)

    def metrics(self) -> GuestMetrics:
        """Return memory and processors, if the measured manifest lets the host know."""
        total, available, vcpus = map(_integer, self._call("metrics"))
        return GuestMetrics(
            total_bytes=total * METRICS_UNIT_BYTES,
            available_bytes=available * METRICS_UNIT_BYTES,
            vcpus=vcpus,
        )

    def exit_code(self) -> int:
        """Return the exit code of a pod that ended by itself, while its guest ends.

        Raises:
            CallRefusedError: `rpc.denied`: the measured manifest does not let the host know;
                `rpc.failed`: the pod was stopped, or never ran; `rpc.not_now`: the guest does not
                end yet.
        """
        (code,) = map(_integer, self._call("exit"))
        return code

    def relay(self) -> socket.socket:
        """Return a stream of raw bytes to the guest's owner plane; the caller closes it."""
        self._call("relay")
        stream, self._stream = self._stream, None
        if stream is None:
            raise RuntimeError("a call that succeeded has left no stream")
        stream.settimeout(None)
        return stream

    def collect(
        self, cursor: int = 0, wait_ms: int = 10_000, *, follow: bool = True
    ) -> Iterator[SealedChunk]:
        """Yield the sealed stream from `cursor` on; empty chunks are left out.

        Args:
            cursor: everything before it has arrived.
            wait_ms: how long the guest is to wait for bytes before it says that there are none.
            follow: whether to go on to the stream's end instead of stopping when there is no more.

        Raises:
            FormatError: `rpc.cursor`: the guest's next cursor is not behind its bytes.
        """
        is_last = False
        while not is_last:
            limit = min(wait_ms, MAX_WAIT_MS)
            following, last, blob = self._call("collect", cursor, limit, extra_seconds=limit / 1000)
            chunk = SealedChunk(
                next_cursor=_integer(following), is_last=bool(last), blob=_bytes(blob)
            )
            if chunk.next_cursor < cursor or (chunk.blob and chunk.next_cursor == cursor):
                raise FormatError("rpc.cursor", f"cursor {cursor} is followed by {following!r}")
            cursor, is_last = chunk.next_cursor, chunk.is_last
            if chunk.blob or is_last:
                yield chunk
            elif not follow:
                return
            else:
                time.sleep(_PACE_SECONDS)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, name: str, *params: Value, extra_seconds: float = 0.0) -> tuple[Value, ...]:
        method = METHODS.get(name)
        if method is None:
            raise ConfigError("rpc.method", f"this version of the host plane has no {name}")
        self._msgid = (self._msgid + 1) & _MSGID_MASK
        seconds = _CALL_SECONDS + extra_seconds
        try:
            reply = self._exchange(method, params, seconds)
        except TimeoutError as error:
            self.close()
            detail = f"the guest did not answer `{name}` within {round(seconds, 1):g} s"
            raise DeadlineError("rpc.silent", detail) from error
        except OSError as error:
            self.close()
            raise PeerError("rpc.closed", f"{name}: {describe_error(error)}") from error
        except (FormatError, PeerError):
            self.close()
            raise
        if reply.error is not None:
            raise CallRefusedError(name, reply.error)
        return reply.result

    def _exchange(self, method: Method, params: tuple[Value, ...], seconds: float) -> Reply:
        deadline = time.monotonic() + seconds
        stream = self._stream = self._stream or self._connect()
        stream.settimeout(_CALL_SECONDS)
        stream.sendall(encode_request(self._msgid, method.name, params))
        reader = ReplyReader(method)
        reply = None
        missing = method.reply_bytes  # and no byte of the next reply
        while reply is None:
            stream.settimeout(max(0.001, deadline - time.monotonic()))
            data = stream.recv(missing)
            if not data:
                raise PeerError("rpc.closed", f"the guest closed the connection in {method.name}")
            missing -= len(data)
            reply = reader.feed(data)
        if reply.msgid != self._msgid:
            raise FormatError("rpc.msgid", f"asked {self._msgid}, answered {reply.msgid}")
        return reply


def _parse_state(values: tuple[Value, ...]) -> GuestState:
    phase, code, sequence, flags = map(_integer, values)
    try:
        return GuestState(
            phase=Phase(phase),
            code=Code(code),
            sequence=sequence,
            is_debug=bool(flags & StateFlag.DEBUG),
        )
    except ValueError as error:
        raise FormatError("rpc.state", f"phase {phase} or code {code} is not known") from error


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError("the schema says integer")
    return value


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("the schema says bin")
    return value
