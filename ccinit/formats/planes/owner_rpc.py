"""The owner plane: every method that the guest's owner can call, and who may call it.

MessagePack-RPC as on the host plane, over TLS 1.3 with certificates on both sides. Here text may
travel: only the owner can read it. The guest dispatches by this table, `guest-owner` checks replies
against it, and docs/owner-rpc.md is generated from it.

A method with `streams` answers when its streams have ended. Until then its request's msgid is the
id of its notifications: `[2, "data", [id, fd, bin]]` carries bytes, an empty bin is the end of that
fd, and `[2, "credit", [id, n]]` lets the other side send n more bytes. Each side begins with 64 KiB
of credit for each id. `owner_wire` does the framing.
"""

import hashlib
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final

from ccinit.formats.planes.host_rpc import Binary, BinaryUpTo, Boolean, Uint
from ccinit.formats.planes.host_rpc import is_valid as is_valid_host_value
from ccinit.values import frozen

NONCE_BYTES: Final = 32
WINDOW_BYTES: Final = 64 * 1024
MAX_CALLS: Final = 8
MAX_EVIDENCE_BYTES: Final = 512 * 1024
MAX_METRICS_BYTES: Final = 256 * 1024
MAX_NAME_BYTES: Final = 63
MAX_PATH_BYTES: Final = 4096
MAX_ARGUMENTS: Final = 64
MAX_COPY_BYTES: Final = 1 << 30
ROLE_URI_PREFIX: Final = "urn:ccinit:role:"
REPORT_DOMAIN: Final = b"ccinit/owner/v1\0"
"""`attest` reports SHA-512(this ‖ nonce ‖ SHA-256 of the certificate that the guest shows)."""


class ClientRole(StrEnum):
    """What a client's certificate lets it do; each role includes the ones before it.

    The certificate carries it as a URI among its alternative names, `urn:ccinit:role:<role>`,
    exactly one.
    """

    LOGS = "logs"
    EXEC = "exec"
    ADMIN = "admin"

    def includes(self, other: "ClientRole") -> bool:
        """Return whether this role may do all that `other` may."""
        order = tuple(ClientRole)
        return order.index(self) >= order.index(other)


class Stream(IntEnum):
    """The fds of `data`; RESIZE takes rows and columns as two u16, big-endian."""

    INPUT = 0
    OUTPUT = 1
    ERROR = 2
    RESIZE = 4


@frozen(kw_only=False)
class Text:
    """A string of at most `length` UTF-8 bytes without NUL."""

    length: int

    def __str__(self) -> str:
        return f"text≤{self.length}"


@frozen(kw_only=False)
class Texts:
    """An array of at most `count` strings of at most `length` bytes."""

    length: int
    count: int

    def __str__(self) -> str:
        return f"[text≤{self.length}] ≤ {self.count}"


Kind = Uint | Binary | BinaryUpTo | Boolean | Text | Texts
Value = int | bytes | bool | str | tuple[str, ...]


@frozen(kw_only=False)
class Field:
    """One positional parameter or result."""

    name: str
    kind: Kind


@frozen
class Method:
    """One call.

    Attributes:
        role: the least one that the client must have.
        streams: the fds that its data may carry; empty for a plain call.
    """

    name: str
    role: ClientRole
    params: tuple[Field, ...] = ()
    result: tuple[Field, ...] = ()
    streams: tuple[Stream, ...] = ()
    purpose: str


_CONTAINER = Field("container", Text(MAX_NAME_BYTES))
_SINCE = (Field("since", Uint(64)), Field("follow", Boolean()))
_SIZE = (Field("rows", Uint(16)), Field("columns", Uint(16)))

_TABLE = (
    Method(
        name="attest",
        role=ClientRole.LOGS,
        params=(Field("nonce", Binary(NONCE_BYTES)),),
        result=(Field("tee", Text(32)), Field("evidence", BinaryUpTo(MAX_EVIDENCE_BYTES))),
        purpose="Return fresh evidence over the nonce and the guest's certificate, as the JSON "
        "text that a KBS gets on this platform. `tee` is RCAR's name of the platform.",
    ),
    Method(
        name="logs",
        role=ClientRole.LOGS,
        params=(_CONTAINER, *_SINCE),
        result=(Field("next", Uint(64)),),
        streams=(Stream.OUTPUT,),
        purpose="Return recent output from number `since` on: of one container or, with an empty "
        "name, of all containers, crun and the kernel. Pass `next` as `since` of the next call. "
        "With `follow` the call ends only when nothing more can come.",
    ),
    Method(
        name="events",
        role=ClientRole.LOGS,
        params=_SINCE,
        result=(Field("next", Uint(64)),),
        streams=(Stream.OUTPUT,),
        purpose="Return recent entries of the guest itself: its events, and the phases and codes "
        "that it told the host.",
    ),
    Method(
        name="metrics",
        role=ClientRole.LOGS,
        result=(Field("text", BinaryUpTo(MAX_METRICS_BYTES)),),
        purpose="Return metrics of guest, containers, pull, attestation and log in Prometheus text "
        "format 0.0.4.",
    ),
    Method(
        name="attach",
        role=ClientRole.LOGS,
        params=(_CONTAINER,),
        streams=(Stream.OUTPUT, Stream.ERROR),
        purpose="Stream what a container writes from now on, until it ends.",
    ),
    Method(
        name="exec",
        role=ClientRole.EXEC,
        params=(
            _CONTAINER,
            Field("args", Texts(MAX_PATH_BYTES, MAX_ARGUMENTS)),
            Field("tty", Boolean()),
            *_SIZE,
        ),
        result=(Field("code", Uint(8)), Field("signal", Uint(8))),
        streams=(Stream.INPUT, Stream.OUTPUT, Stream.ERROR, Stream.RESIZE),
        purpose="Run a program in a container of `[allow].exec`. It is killed when the connection "
        "ends. `rows` and `columns` are the terminal's size, if `tty` is true. Either `code` or "
        "`signal` says how the program ended; the other is 0.",
    ),
    Method(
        name="copy",
        role=ClientRole.EXEC,
        params=(
            _CONTAINER,
            Field("path", Text(MAX_PATH_BYTES)),
            Field("into", Boolean()),
            Field("mode", Uint(16)),
        ),
        result=(Field("bytes", Uint(64)),),
        streams=(Stream.INPUT, Stream.OUTPUT),
        purpose="Read a file of a container of `[allow].exec` or, if `into` is true, write one; at "
        "most 1 GiB. Writing empties an existing file first; a new file gets the permissions "
        "`mode` (& 0777). What is in /proc is no file here. If the pod ends first, the copy fails "
        "with `owner.pod_ended`, and a file that was being written keeps what had come by then.",
    ),
    Method(
        name="signal",
        role=ClientRole.EXEC,
        params=(_CONTAINER, Field("number", Uint(8))),
        purpose="Send a signal to the first process of a container of `[allow].exec`.",
    ),
    Method(
        name="rotate",
        role=ClientRole.ADMIN,
        result=(Field("files", Uint(16)),),
        purpose="Attest anew, and put new files with what the KBS holds now in the place of secret "
        "files that may rotate. Containers whose files have changed get the signal that the "
        "manifest names.",
    ),
    Method(
        name="open_debug",
        role=ClientRole.ADMIN,
        result=(Field("seconds", Uint(32)), Field("keep_pod", Boolean())),
        purpose="Open debug, if the KBS grants it to this guest. The guest asks for the grant, "
        "measures that debug opens, and stops its pod unless the grant keeps it (`keep_pod`). For "
        "`seconds`, `exec` with the container `@debug` then runs programs of the tools volume. "
        "After that the guest ends.",
    ),
)

DEBUG_CONTAINER: Final = "@debug"
"""The debug environment's name in `exec`; no container can have it."""

METHODS: Mapping[str, Method] = {method.name: method for method in _TABLE}


def report_data(nonce: bytes, certificate_der: bytes) -> bytes:
    """Return the report data for the evidence of `attest`, 64 bytes; see `REPORT_DOMAIN`."""
    certificate = hashlib.sha256(certificate_der).digest()
    return hashlib.sha512(REPORT_DOMAIN + nonce + certificate).digest()


def is_valid(kind: Kind, value: object) -> bool:
    """Whether a decoded value (arrays as tuples) is of `kind`."""
    match kind:
        case Text(length):
            return _is_text(value, length)
        case Texts(length, count):
            return (
                isinstance(value, tuple)
                and len(value) <= count
                and all(_is_text(item, length) for item in value)
            )
        case _:
            return is_valid_host_value(kind, value)


def are_valid(fields: tuple[Field, ...], values: tuple[object, ...]) -> bool:
    """Whether values are exactly of the form of `fields`."""
    return len(fields) == len(values) and all(
        is_valid(field.kind, value) for field, value in zip(fields, values, strict=True)
    )


def _is_text(value: object, length: int) -> bool:
    return isinstance(value, str) and "\0" not in value and len(value.encode()) <= length
