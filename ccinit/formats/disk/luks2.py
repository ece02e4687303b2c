"""LUKS2 headers (LUKS2 On-Disk Format Specification 1.1.1), read against a whitelist.

A LUKS2 header has a checksum but no MAC, and itself names the ciphers of its key slots and of its
data. So whoever can write the disk can make one that opens under any key, or that encrypts nothing.
Therefore exactly one shape is accepted, the one that this command makes:

    cryptsetup luksFormat --type luks2 --cipher aes-xts-plain64 --key-size 512 --hash sha256
        --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --sector-size 4096

Every JSON member is a constant, except salts, iteration counts and the digest; there is one key
slot, one segment, one digest, and no token, flag or requirement. In the binary part only sequence
number, UUID and salt may vary, and nothing reads them. Sequence number, UUID and JSON of both
copies must be equal.

Optionally the owner seals the header: an HMAC under a key derived from the volume's released key,
in the first block after the key slot, is verified before any byte of the header is parsed.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import TypeAlias

from ccinit.errors import FormatError, LimitExceededError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, parse_json
from ccinit.values import frozen

HEADER_BYTES = 16 * 1024
"""Of one copy; the second follows it directly."""

AREA_OFFSET = 2 * HEADER_BYTES
AREA_BYTES = 258_048
SEAL_OFFSET = AREA_OFFSET + AREA_BYTES
SEAL_BYTES = 4096
COPY_BYTES = SEAL_OFFSET + SEAL_BYTES
"""All that is ever read of a header: both copies, the one key slot, the seal's block."""

PAYLOAD_OFFSET = 16 << 20
KEY_BYTES = 64
STRIPES = 4000
SALT_BYTES = 32
SEAL_KEY_BYTES = 32
MIN_ITERATIONS = 1000
MAX_ITERATIONS = 10_000_000
"""The passphrase is a random key, so iterations protect nothing; too many only take time."""

_BINARY_BYTES = 4096
_MAGICS = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")
_VERSION = 2
_CIPHER = "aes-xts-plain64"
_SEAL_MAGIC = b"ccinit/luks2/v1\0"


@frozen
class Pbkdf2:
    """Salt and iterations of one PBKDF2-HMAC-SHA256."""

    salt: bytes
    iterations: int


@frozen
class Luks2Header:
    """What a header may choose; the rest is constant.

    Attributes:
        slot: from the passphrase to the key of the slot's area.
        check: from the volume key to `digest`.
        digest: 32 bytes.
        area: the slot's ciphertext, 256 000 bytes.
    """

    slot: Pbkdf2
    check: Pbkdf2
    digest: bytes
    area: bytes


def parse_luks2_header(copy: bytes) -> Luks2Header:
    """Parse a copy of the beginning of a disk.

    Args:
        copy: `COPY_BYTES` of it.

    Raises:
        FormatError: `luks2.…`, the field or the path of the member that is not as it must be.
        VerificationError: `luks2.checksum`, `luks2.copies`.
    """
    if len(copy) != COPY_BYTES:
        raise FormatError("luks2.length", f"expected {COPY_BYTES} bytes, found {len(copy)}")
    first, second = copy[:HEADER_BYTES], copy[HEADER_BYTES:AREA_OFFSET]
    binary = _parse_binary(first, 0)
    if binary != _parse_binary(second, 1) or first[_BINARY_BYTES:] != second[_BINARY_BYTES:]:
        raise VerificationError("luks2.copies", "the two copies differ")
    json_text, _, padding = first[_BINARY_BYTES:].partition(b"\0")
    if any(padding):
        raise FormatError("luks2.json.padding", "bytes behind the end of the text")
    found: dict[str, str | int] = {}
    _match(parse_json(json_text, "luks2.json", HEADER_BYTES - _BINARY_BYTES), _SHAPE, "", found)
    return Luks2Header(
        slot=_read_pbkdf2(found, "keyslots.0.kdf"),
        check=_read_pbkdf2(found, "digests.0"),
        digest=_read_bytes(found, "digests.0.digest"),
        area=copy[AREA_OFFSET : AREA_OFFSET + STRIPES * KEY_BYTES],
    )


def _parse_binary(header: bytes, index: int) -> tuple[bytes, ...]:
    """Check the binary part of copy `index`; return what both copies must have in common."""
    constants = {
        "magic": (header[:6], _MAGICS[index]),
        "version": (header[6:8], _VERSION.to_bytes(2, "big")),
        "header_size": (header[8:16], HEADER_BYTES.to_bytes(8, "big")),
        "label": (header[24:72], bytes(48)),
        "checksum_algorithm": (header[72:104], b"sha256".ljust(32, b"\0")),
        "subsystem": (header[208:256], bytes(48)),
        "header_offset": (header[256:264], (index * HEADER_BYTES).to_bytes(8, "big")),
        "padding": (header[264:448] + header[480:_BINARY_BYTES], bytes(184 + 3616)),
    }
    for name, (value, constant) in constants.items():
        if value != constant:
            raise FormatError(f"luks2.{name}", f"copy {index} has {value[:32].hex()}")
    checksum = sha256(header[:448] + bytes(64) + header[512:]).digest()
    if header[448:480] != checksum:
        raise VerificationError("luks2.checksum", f"copy {index} does not have its checksum")
    return header[16:24], header[168:208]  # sequence number, UUID


class _Text:
    """A place in the shape for base64 text that the header may choose."""


class _Iterations:
    """A place in the shape for an iteration count."""


_Shape: TypeAlias = "JsonValue | type[_Text | _Iterations] | Mapping[str, _Shape]"

_SHAPE: _Shape = {
    "keyslots": {
        "0": {
            "type": "luks2",
            "key_size": KEY_BYTES,
            "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
            "area": {
                "type": "raw",
                "offset": str(AREA_OFFSET),
                "size": str(AREA_BYTES),
                "encryption": _CIPHER,
                "key_size": KEY_BYTES,
            },
            "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": _Iterations, "salt": _Text},
        }
    },
    "tokens": {},
    "segments": {
        "0": {
            "type": "crypt",
            "offset": str(PAYLOAD_OFFSET),
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": _CIPHER,
            "sector_size": 4096,
        }
    },
    "digests": {
        "0": {
            "type": "pbkdf2",
            "keyslots": ["0"],
            "segments": ["0"],
            "hash": "sha256",
            "iterations": _Iterations,
            "salt": _Text,
            "digest": _Text,
        }
    },
    "config": {
        "json_size": str(HEADER_BYTES - _BINARY_BYTES),
        "keyslots_size": str(PAYLOAD_OFFSET - AREA_OFFSET),
    },
}


def _match(value: JsonValue, shape: _Shape, path: str, found: dict[str, str | int]) -> None:
    """Compare a value with a shape; put what may differ into `found` under its path."""
    reason = f"luks2{path}"
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(shape):
            raise FormatError(reason, "missing or unknown members")
        for name, inner in shape.items():
            _match(value[name], inner, f"{path}.{name}", found)
    elif shape is _Text and isinstance(value, str):
        found[path[1:]] = value
    elif shape is _Iterations and isinstance(value, int) and not isinstance(value, bool):
        if value > MAX_ITERATIONS:
            raise LimitExceededError(reason, f"expected at most {MAX_ITERATIONS}, found {value}")
        if value < MIN_ITERATIONS:
            raise FormatError(reason, f"expected at least {MIN_ITERATIONS}, found {value}")
        found[path[1:]] = value
    elif type(value) is not type(shape) or value != shape:
        raise FormatError(reason, f"expected {shape!r}, found {str(value)[:80]!r}")


def _read_pbkdf2(found: Mapping[str, str | int], path: str) -> Pbkdf2:
    return Pbkdf2(
        salt=_read_bytes(found, f"{path}.salt"), iterations=int(found[f"{path}.iterations"])
    )


def _read_bytes(found: Mapping[str, str | int], path: str) -> bytes:
    return decode_base64(str(found[path]), f"luks2.{path}", SALT_BYTES, SALT_BYTES)


def seal_info(pod: str, volume: str) -> bytes:
    """Return the HKDF info of the key that seals the header of `volume` in `pod`."""
    return f"ccinit/volume/v1/{pod}/{volume}/header".encode()


def make_seal(copy: bytes, key: bytes) -> bytes:
    """Return the block that seals a header: `SEAL_BYTES` for `SEAL_OFFSET`.

    Args:
        copy: the beginning of the disk, at least up to the seal.
        key: 32 bytes by HKDF-SHA256 from the volume's released key, with `seal_info`.
    """
    tag = hmac.digest(key, _SEAL_MAGIC + copy[:SEAL_OFFSET], "sha256")
    return (_SEAL_MAGIC + tag).ljust(SEAL_BYTES, b"\0")


def verify_seal(copy: bytes, key: bytes) -> bytes:
    """Return the copy if its seal is the one under `key`; nothing in it is parsed before.

    Raises:
        VerificationError: `luks2.seal`.
    """
    if not hmac.compare_digest(copy[SEAL_OFFSET:COPY_BYTES], make_seal(copy, key)):
        raise VerificationError("luks2.seal", "the header is not as its owner sealed it")
    return copy
