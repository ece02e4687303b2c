"""The host plane: every method, phase and code that the untrusted host can ever see.

This table is the whole surface. No type here holds text, so no reply can carry any; every reply of
a method has one size. The guest dispatches by this table, the host's tools check replies against
it, and docs/host-rpc.md is generated from it.

`msgpack_rpc` does the framing (MessagePack-RPC over AF_VSOCK port 1024).
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag

from ccinit.annotations import Final
from ccinit.values import frozen

PORT = 1024
PROTOCOL = 1
HOST_CID = 2

REPLY_BYTES = 64
COLLECT_REPLY_BYTES = 65_664
COLLECT_BLOB_BYTES = 65_536
MAX_WAIT_MS = 60_000
METRICS_UNIT_BYTES = 64 * 1024 * 1024


class Phase(IntEnum):
    """Where the boot is; numbers only grow."""

    ENTRY = 0
    MOUNT = 1
    HARDEN = 2
    LISTEN = 3
    CONFIG = 4
    NET = 5
    RANDOM = 6
    ATTEST = 7
    UNLOCK = 8
    PULL = 9
    START = 10
    RUN = 11
    DEBUG = 12
    STOP = 13
    OFF = 14


class Code(IntEnum):
    """Why the guest stopped, as far as the host may know: one code for a whole class of causes.

    No two codes differ by anything that depends on a secret: a wrong key, a foreign disk and an
    I/O error are all `STORAGE`.
    """

    OK = 0x00
    BOOT = 0x10
    CONFIG = 0x20
    NET = 0x30
    RANDOM = 0x31
    KBS_UNREACHABLE = 0x40
    REFUSED = 0x41
    STORAGE = 0x50
    IMAGE = 0x60
    WORKLOAD_START = 0x70
    WORKLOAD_EXIT = 0x71
    STOP_FORCED = 0x80
    INTERNAL = 0xF0


RESERVED_CODES: Final = frozenset({0x72, 0xF1})
"""Numbers that will never be codes: out of resources, and stalled.

Whether a pod lacked memory is a part of how it ended, which the host learns only if `[allow]` says
so; and nothing supervises PID 1 that could report that it hangs.
"""


class RpcError(IntEnum):
    """Why a call was not carried out."""

    BADREQ = 1
    NOT_NOW = 2
    BUSY = 3
    DENIED = 4
    FAILED = 5


class StateFlag(IntFlag):
    """Bits of the `flags` result of `state` and `wait`."""

    DEBUG = 1


@frozen(kw_only=False)
class Uint:
    """An unsigned integer below 2**bits, in any of MessagePack's widths."""

    bits: int

    def __str__(self) -> str:
        return f"u{self.bits}"


@frozen(kw_only=False)
class Binary:
    """A bin of exactly `length` bytes."""

    length: int

    def __str__(self) -> str:
        return f"b{self.length}"


@frozen(kw_only=False)
class BinaryUpTo:
    """A bin of at most `length` bytes."""

    length: int

    def __str__(self) -> str:
        return f"b≤{self.length}"


@frozen(kw_only=False)
class Boolean:
    """true or false."""

    def __str__(self) -> str:
        return "bool"


@frozen(kw_only=False)
class ListUpTo:
    """An array of at most `count` bins of exactly `length` bytes."""

    length: int
    count: int

    def __str__(self) -> str:
        return f"[b{self.length}] ≤ {self.count}"


Kind = Uint | Binary | BinaryUpTo | Boolean | ListUpTo
Value = int | bytes | bool | tuple[bytes, ...]


@frozen(kw_only=False)
class Field:
    """One positional parameter or result."""

    name: str
    kind: Kind


@frozen
class Method:
    """One call.

    Attributes:
        phases: in which it is carried out; in others the answer is `NOT_NOW`.
        hands_over: whether the connection leaves the host plane after a reply without error.
        leak: why its reply tells the host nothing that it does not already know.
    """

    name: str
    params: tuple[Field, ...] = ()
    result: tuple[Field, ...] = ()
    reply_bytes: int = REPLY_BYTES
    phases: frozenset[Phase]
    purpose: str
    leak: str
    hands_over: bool = False


_ALWAYS = frozenset(Phase) - {Phase.ENTRY, Phase.MOUNT, Phase.HARDEN}
_STOPPABLE = _ALWAYS - {Phase.OFF}
_CONFIGURED = _STOPPABLE - {Phase.LISTEN, Phase.CONFIG}
_ENDING = frozenset({Phase.STOP, Phase.OFF})
_STATE = (
    Field("phase", Uint(8)),
    Field("code", Uint(8)),
    Field("seq", Uint(32)),
    Field("flags", Uint(8)),
)

_TABLE = (
    Method(
        name="hello",
        params=(Field("proto", Uint(8)),),
        result=(Field("proto", Uint(8)), Field("build_id", Binary(16))),
        phases=_ALWAYS,
        purpose=f"Return which protocol ({PROTOCOL}) and which public image this is.",
        leak="constants of a public, measured image",
    ),
    Method(
        name="state",
        result=_STATE,
        phases=_ALWAYS,
        purpose="Return the present state. `seq` counts its changes. Bit 0 of `flags`: debug is"
        " open.",
        leak="a phase, a closed code, a counter and the debug bit",
    ),
    Method(
        name="wait",
        params=(Field("seq", Uint(32)), Field("ms", Uint(32))),
        result=_STATE,
        phases=_ALWAYS,
        purpose="Like `state`, but the reply comes once `seq` is no longer current, or after `ms`.",
        leak="as `state`, and when it changed",
    ),
    Method(
        name="offer_network",
        params=(
            Field("mac", Binary(6)),
            Field("address", Binary(16)),
            Field("prefix", Uint(8)),
            Field("gateway", Binary(16)),
            Field("mtu", Uint(16)),
            Field("dns", ListUpTo(16, 3)),
        ),
        phases=frozenset({Phase.LISTEN, Phase.CONFIG, Phase.NET}),
        purpose="Offer a network configuration. IPv4 addresses are in mapped form, with a `prefix`"
        " of their 32 bits. The newest offer counts; NET validates it and may refuse it. The"
        " gateway lies in the subnet; outside of it only for a /32 or /128, or if it is link-local"
        " (IPv6). The MTU is what the link carries, at least 1280.",
        leak="inbound only",
    ),
    Method(
        name="start",
        phases=frozenset(
            {Phase.NET, Phase.RANDOM, Phase.ATTEST, Phase.UNLOCK, Phase.PULL, Phase.START}
        ),
        purpose='Let the pod start, if the measured configuration says `start.by = "host"`. A'
        " second call changes nothing.",
        leak="inbound only; whether the measured configuration waits for it",
    ),
    Method(
        name="stop",
        params=(Field("grace_s", Uint(16)),),
        phases=_STOPPABLE,
        purpose="Ask for an orderly end. Containers end one after the other, each within `grace_s`"
        " seconds (capped by the measured files). A second call changes nothing.",
        leak="inbound only; always accepted",
    ),
    Method(
        name="metrics",
        result=(
            Field("mem_total", Uint(32)),
            Field("mem_available", Uint(32)),
            Field("vcpus", Uint(16)),
        ),
        phases=_CONFIGURED,
        purpose="Return memory in units of 64 MiB, and the number of processors, if the measured"
        " manifest allows it.",
        leak="what the hypervisor sees anyway, and memory in use in coarse steps; off by default",
    ),
    Method(
        name="exit",
        result=(Field("code", Uint(8)),),
        phases=_ENDING,
        purpose="Return the exit code of a pod that ended by itself, if the measured manifest"
        " allows it.",
        leak="one number of the pod, or that it did not end by itself (`FAILED`); off by default",
    ),
    Method(
        name="collect",
        params=(Field("cursor", Uint(64)), Field("ms", Uint(32))),
        result=(
            Field("next", Uint(64)),
            Field("last", Boolean()),
            Field("blob", BinaryUpTo(COLLECT_BLOB_BYTES)),
        ),
        reply_bytes=COLLECT_REPLY_BYTES,
        phases=_ALWAYS,
        purpose="Return bytes of the sealed log from `cursor` on, and wait up to `ms` for some. The"
        " first `cursor` is 0, then the `next` of each reply. A cursor acknowledges all bytes"
        " before it: the guest may forget these. If they are asked for again, the reply begins with"
        " the oldest byte that the guest has; `blob` begins at `next` minus its size. After `last`"
        " nothing follows.",
        leak="padded ciphertext in three sizes, encrypted to the owner's key, and when there is"
        " more of it; in batches of one length at fixed times if the measured configuration"
        " says so",
    ),
    Method(
        name="relay",
        phases=frozenset(
            {Phase.UNLOCK, Phase.PULL, Phase.START, Phase.RUN, Phase.DEBUG, Phase.STOP}
        ),
        purpose="Hand this connection over to the owner plane, if there is one: after the reply it"
        " carries raw bytes. If the client sends bytes before the reply, the connection is closed.",
        leak="whether the measured configuration has an owner plane, and whether that has room for"
        " a connection now; then TLS 1.3 ciphertext",
        hands_over=True,
    ),
)

METHODS: Mapping[str, Method] = {method.name: method for method in _TABLE}


def is_valid(kind: Kind, value: object) -> bool:
    """Whether a decoded MessagePack value (arrays as tuples or lists) is of `kind`."""
    match kind:
        case Uint(bits):
            return type(value) is int and 0 <= value < 1 << bits
        case Binary(length):
            return isinstance(value, bytes) and len(value) == length
        case BinaryUpTo(length):
            return isinstance(value, bytes) and len(value) <= length
        case Boolean():
            return isinstance(value, bool)
        case ListUpTo(length, count):
            return (
                isinstance(value, list | tuple)
                and len(value) <= count
                and all(isinstance(item, bytes) and len(item) == length for item in value)
            )


def are_valid(fields: tuple[Field, ...], values: Sequence[object]) -> bool:
    """Whether values are exactly of the form of `fields`."""
    return len(fields) == len(values) and all(
        is_valid(field.kind, value) for field, value in zip(fields, values, strict=True)
    )
