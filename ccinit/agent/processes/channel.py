"""The protocol between PID 1 and a child: frames of one kind and one payload each.

    frame   = length u32 (of what follows), kind u8, payload; big-endian
    PID 1 → child   REQUEST (once), ANSWER (one for each QUESTION, fds may ride along)
    child → PID 1   QUESTION, NOTICE (no answer), then RESULT or FAILURE (once, the last)

Payloads are values of `ccinit.formats.encoding.wire`. A QUESTION or NOTICE names its class, because
a job may have several. Both ends read under caps; PID 1 trusts nothing in a frame, not even its
length.
"""

import enum
import struct
from collections.abc import Iterator

from ccinit import errors
from ccinit.errors import (
    CcinitError,
    ChildError,
    KernelError,
    LimitExceededError,
    describe_stray,
    errno_text,
)
from ccinit.formats.encoding import wire
from ccinit.values import frozen

HEADER = struct.Struct(">IB")
LENGTH_BYTES = 4
CHANNEL_FD = 3
FIRST_JOB_FD = 4
MAX_FDS = 8
REQUEST_BYTES = 8 << 20
DETAIL_CHARACTERS = 1024
REASON_CHARACTERS = 64
REASON_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")

FAMILIES: dict[str, type[CcinitError]] = {
    family.__name__: family
    for family in (
        errors.ChildError,
        errors.ConfigError,
        errors.DeadlineError,
        errors.FormatError,
        errors.LimitExceededError,
        errors.PeerError,
        errors.VerificationError,
    )
}


class Kind(enum.IntEnum):
    """Kinds of frames."""

    REQUEST = 1
    QUESTION = 2
    ANSWER = 3
    NOTICE = 4
    RESULT = 5
    FAILURE = 6


@frozen
class Named:
    """Payload of QUESTION and NOTICE: an encoded value and its class's name."""

    name: str
    body: bytes


@frozen
class Failure:
    """Payload of FAILURE: an error in transit.

    Attributes:
        family: name of the class in `ccinit.errors`.
        errno: of a `KernelError`, else 0.
    """

    family: str
    reason: str
    detail: str
    errno: int


@frozen
class ProgramRequest:
    """The request of a role whose job is a program."""

    arguments: tuple[str, ...]


def encode_frame(kind: Kind, value: object) -> bytes:
    """Encode one frame around a wire value."""
    payload = wire.encode(value)
    return HEADER.pack(len(payload) + 1, kind) + payload


def encode_named(kind: Kind, value: object) -> bytes:
    """Encode a QUESTION or NOTICE."""
    return encode_frame(kind, Named(name=type(value).__name__, body=wire.encode(value)))


class FrameReader:
    """Splits a stream of bytes into frames; holds at most one incomplete frame."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Add bytes; yield the frames that are now complete, as kind and payload.

        Raises:
            ChildError: `child.protocol`, an unknown kind.
            LimitExceededError: `child.frame`, a frame longer than the cap.
        """
        self._buffer += data
        while len(self._buffer) >= LENGTH_BYTES:
            (length,) = struct.unpack_from(">I", self._buffer)
            if not 0 < length <= self._limit_bytes:
                raise LimitExceededError(
                    "child.frame", f"expected at most {self._limit_bytes} bytes, found {length}"
                )
            if len(self._buffer) < LENGTH_BYTES + length:
                return
            kind = self._buffer[LENGTH_BYTES]
            payload = bytes(self._buffer[HEADER.size : LENGTH_BYTES + length])
            del self._buffer[: LENGTH_BYTES + length]
            try:
                yield Kind(kind), payload
            except ValueError as error:
                raise ChildError("child.protocol", f"frame kind {kind}") from error


def describe_error(error: Exception) -> Failure:
    """Encode an error for the channel. The text of errors that are not ours stays here."""
    match error:
        case KernelError():
            return Failure(
                family="KernelError",
                reason=error.reason,
                detail=error.detail.removesuffix(f": {errno_text(error.errno)}"),
                errno=error.errno or 0,
            )
        case CcinitError():
            return Failure(family=_family(error), reason=error.reason, detail=error.detail, errno=0)
        case _:
            return Failure(
                family="ChildError",
                reason="child.exception",
                detail=describe_stray(error),
                errno=0,
            )


def _family(error: CcinitError) -> str:
    """Return the family that PID 1 knows; rooms may have subclasses of their own."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((name for name in names if name in FAMILIES), names[0])


def to_error(failure: Failure) -> CcinitError:
    """Turn a child's FAILURE into an error of the family that it names, with sanitised text."""
    reason = failure.reason
    if not 0 < len(reason) <= REASON_CHARACTERS or not REASON_ALPHABET.issuperset(reason):
        return ChildError("child.protocol", "a failure without a proper reason")
    detail = printable(failure.detail)
    if failure.family == "KernelError":
        return KernelError(failure.errno, reason.removeprefix("kernel."), detail)
    family = FAMILIES.get(failure.family)
    if family is None:
        return ChildError("child.protocol", "a failure of an unknown family")
    return family(reason, detail)


def printable(text: str) -> str:
    """Reduce untrusted text to a bounded length of printable ASCII."""
    cut = text[:DETAIL_CHARACTERS]
    return "".join(letter if " " <= letter <= "~" else "?" for letter in cut)
