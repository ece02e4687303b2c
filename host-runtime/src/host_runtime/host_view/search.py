"""Finds planted secrets ("canaries") in what the host saw, in the encodings that software uses.

Pure: it takes pieces of bytes from anywhere; `host_runtime.host_view.sinks` provides them. A canary
should have 16 random bytes or more, or else a short form of it would be found by chance.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import quote_from_bytes

# Pieces of one stream overlap by this much, so that a form of a canary is never cut in two.
MAX_CANARY_BYTES: Final = 128
OVERLAP_BYTES: Final = 3 * MAX_CANARY_BYTES  # percent encoding is the longest form


class Encoding(StrEnum):
    """The encodings that are searched for."""

    RAW = "raw"
    HEX_LOWER = "hex-lower"
    HEX_UPPER = "hex-upper"
    BASE64_0 = "base64-0"
    BASE64_1 = "base64-1"
    BASE64_2 = "base64-2"
    BASE64URL_0 = "base64url-0"
    BASE64URL_1 = "base64url-1"
    BASE64URL_2 = "base64url-2"
    UTF16LE = "utf-16le"
    UTF16BE = "utf-16be"
    REVERSED = "reversed"
    PERCENT = "percent"
    PERCENT_ALL_LOWER = "percent-all-lower"
    PERCENT_ALL_UPPER = "percent-all-upper"


_BASE64 = (Encoding.BASE64_0, Encoding.BASE64_1, Encoding.BASE64_2)
_BASE64URL = (Encoding.BASE64URL_0, Encoding.BASE64URL_1, Encoding.BASE64URL_2)


class Searchable(Protocol):
    """Something with a name and pieces of bytes; see `host_runtime.host_view.sinks.Sink`."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    def pieces(self) -> Iterable[bytes]:
        """Yield its content; neighbours in one stream overlap by `OVERLAP_BYTES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One canary that was found, in one form, in one sink."""

    sink: str
    canary: str
    encoding: Encoding


def encode_canary(canary: bytes) -> Mapping[Encoding, bytes]:
    """Return every form of `canary` that is searched for.

    Base64 has three forms, by the position of the canary's first byte; each holds only the
    characters that depend on the canary alone. Raw and UTF-16 treat each byte as one character.

    Raises:
        ValueError: the canary has fewer than 8 or more than 128 bytes.
    """
    if not 8 <= len(canary) <= MAX_CANARY_BYTES:
        raise ValueError(f"a canary of {len(canary)} bytes")
    all_percent = "".join(f"%{byte:02x}" for byte in canary)
    forms = {
        Encoding.RAW: canary,
        Encoding.HEX_LOWER: canary.hex().encode(),
        Encoding.HEX_UPPER: canary.hex().upper().encode(),
        Encoding.UTF16LE: canary.decode("latin-1").encode("utf-16-le"),
        Encoding.UTF16BE: canary.decode("latin-1").encode("utf-16-be"),
        Encoding.REVERSED: canary[::-1],
        Encoding.PERCENT: quote_from_bytes(canary, safe="").encode(),
        Encoding.PERCENT_ALL_LOWER: all_percent.encode(),
        Encoding.PERCENT_ALL_UPPER: all_percent.upper().encode(),
    }
    for offset in range(3):
        first = -(-offset * 8 // 6)
        end = (offset + len(canary)) * 8 // 6
        padded = b"\0" * offset + canary
        forms[_BASE64[offset]] = base64.b64encode(padded)[first:end]
        forms[_BASE64URL[offset]] = base64.urlsafe_b64encode(padded)[first:end]
    return forms


def find_canaries(canaries: Mapping[str, bytes], sinks: Iterable[Searchable]) -> tuple[Hit, ...]:
    """Return every canary (by its name) that some sink holds in some form, each once."""
    forms = [
        (name, encoding, form)
        for name, canary in canaries.items()
        for encoding, form in encode_canary(canary).items()
    ]
    hits = (
        Hit(sink=sink.name, canary=name, encoding=encoding)
        for sink in sinks
        for piece in sink.pieces()
        for name, encoding, form in forms
        if form in piece
    )
    return tuple(dict.fromkeys(hits))
