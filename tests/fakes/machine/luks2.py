"""Makes LUKS2 headers byte by byte: good ones, and those that a hostile host would write.

Written from the on-disk format's specification and independent of the reader under test; what it
makes is opened by real cryptsetup in the integration tests.
"""

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import XTS

COPY_BYTES = 294_912
PASSPHRASE = bytes(range(128, 192))
VOLUME_KEY = bytes(range(64, 128))
_HEADER_BYTES = 16_384
_AREA_BYTES = 258_048
_STRIPES = 4000

Metadata = dict[str, Any]
Edit = Callable[[Metadata], object]


def make_metadata() -> Metadata:
    """The JSON of a volume as it should be."""
    salt = base64.b64encode(bytes(range(32))).decode()
    digest = hashlib.pbkdf2_hmac("sha256", VOLUME_KEY, bytes(range(32)), 1000, 32)
    area = {"type": "raw", "offset": "32768", "size": str(_AREA_BYTES)}
    return {
        "keyslots": {
            "0": {
                "type": "luks2",
                "key_size": 64,
                "af": {"type": "luks1", "stripes": _STRIPES, "hash": "sha256"},
                "area": {**area, "encryption": "aes-xts-plain64", "key_size": 64},
                "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": salt},
            }
        },
        "tokens": {},
        "segments": {
            "0": {
                "type": "crypt",
                "offset": "16777216",
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": "aes-xts-plain64",
                "sector_size": 4096,
            }
        },
        "digests": {
            "0": {
                "type": "pbkdf2",
                "keyslots": ["0"],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": 1000,
                "salt": salt,
                "digest": base64.b64encode(digest).decode(),
            }
        },
        "config": {"json_size": "12288", "keyslots_size": "16744448"},
    }


def make_header(edit: Edit = lambda _: None, *, null_slot: bool = False) -> bytes:
    """A disk's first bytes, with valid checksums whatever `edit` did to the metadata."""
    metadata = copy.deepcopy(make_metadata())
    edit(metadata)
    text = json.dumps(metadata, separators=(",", ":")).encode()
    slot_key = hashlib.pbkdf2_hmac("sha256", PASSPHRASE, bytes(range(32)), 1000, 64)
    stripes = split(VOLUME_KEY)
    area = stripes if null_slot else _encrypt(stripes, slot_key)
    headers = b"".join(make_copy(index, text) for index in (0, 1))
    return (headers + area.ljust(_AREA_BYTES, b"\0")).ljust(COPY_BYTES, b"\0")


def make_copy(index: int, text: bytes, binary: dict[int, bytes] | None = None) -> bytes:
    """One of the two copies; `binary` overwrites fields of its binary part by offset."""
    header = bytearray(_HEADER_BYTES)
    fields = {
        0: (b"LUKS\xba\xbe", b"SKUL\xba\xbe")[index],
        6: (2).to_bytes(2, "big"),
        8: _HEADER_BYTES.to_bytes(8, "big"),
        16: (3).to_bytes(8, "big"),
        72: b"sha256",
        104: bytes([index + 1]) * 64,
        168: b"1c64a226-9bd3-4e7c-bd4e-5b7f2c5a0c01",
        256: (index * _HEADER_BYTES).to_bytes(8, "big"),
        4096: text,
    }
    for offset, value in {**fields, **(binary or {})}.items():
        header[offset : offset + len(value)] = value
    header[448:512] = bytes(64)
    header[448:480] = hashlib.sha256(header).digest()
    return bytes(header)


def split(key: bytes) -> bytes:
    """The anti-forensic splitter, with stripes that a test can repeat."""
    stripes, state = b"", bytes(len(key))
    for index in range(_STRIPES - 1):
        stripe = hashlib.sha512(index.to_bytes(4, "big")).digest()
        stripes += stripe
        mixed = bytes(a ^ b for a, b in zip(state, stripe, strict=True))
        state = b"".join(
            hashlib.sha256(block.to_bytes(4, "big") + mixed[block * 32 : block * 32 + 32]).digest()
            for block in (0, 1)
        )
    return stripes + bytes(a ^ b for a, b in zip(state, key, strict=True))


def _encrypt(data: bytes, key: bytes) -> bytes:
    output = b""
    for sector in range(len(data) // 512):
        cipher = Cipher(AES(key), XTS(sector.to_bytes(16, "little"))).encryptor()
        output += cipher.update(data[sector * 512 : sector * 512 + 512])
    return output


def _put(path: str, value: object) -> Edit:
    """An edit that sets the member at `path`."""

    def edit(metadata: Metadata) -> None:
        *parents, last = path.split("/")
        for name in parents:
            metadata = metadata[name]
        metadata[last] = value

    return edit


def _copy_of(path: str) -> Edit:
    """An edit that adds a second object like the first."""

    def edit(metadata: Metadata) -> None:
        metadata[path]["1"] = copy.deepcopy(metadata[path]["0"])

    return edit


_SLOT, _SEGMENT, _DIGEST = "keyslots/0", "segments/0", "digests/0"

NULL_CIPHERS: dict[str, tuple[Edit, str]] = {
    "keyslot": (
        _put(f"{_SLOT}/area/encryption", "cipher_null-ecb"),
        "luks2.keyslots.0.area.encryption",
    ),
    "segment": (
        _put(f"{_SEGMENT}/encryption", "cipher_null-ecb"),
        "luks2.segments.0.encryption",
    ),
    "weaker": (_put(f"{_SEGMENT}/encryption", "aes-ecb"), "luks2.segments.0.encryption"),
}
"""Row 38: ciphers that encrypt nothing, or badly."""

ADDITIONS: dict[str, tuple[Edit, str]] = {
    "keyslot": (_copy_of("keyslots"), "luks2.keyslots"),
    "segment": (_copy_of("segments"), "luks2.segments"),
    "digest": (_copy_of("digests"), "luks2.digests"),
    "token": (_put("tokens/0", {"type": "luks2-keyring", "keyslots": ["0"]}), "luks2.tokens"),
    "requirement": (
        _put("config/requirements", {"mandatory": ["online-reencrypt-v2"]}),
        "luks2.config",
    ),
    "flag": (_put("config/flags", ["allow-discards"]), "luks2.config"),
    "priority": (_put(f"{_SLOT}/priority", 2), "luks2.keyslots.0"),
    "reencryption": (
        _put("keyslots/1", {"type": "reencrypt", "mode": "decrypt", "direction": "forward"}),
        "luks2.keyslots",
    ),
    "segment-flag": (_put(f"{_SEGMENT}/flags", ["in-reencryption"]), "luks2.segments.0"),
    "integrity": (
        _put(f"{_SEGMENT}/integrity", {"type": "none", "journal_encryption": "none"}),
        "luks2.segments.0",
    ),
    "member": (_put("unknown", {}), "luks2"),
}
"""Row 39: more than one of anything, and everything that changes what a volume is."""

REDIRECTIONS: dict[str, tuple[Edit, str]] = {
    "area-in-payload": (
        _put(f"{_SLOT}/area/offset", "16777216"),
        "luks2.keyslots.0.area.offset",
    ),
    "area-in-header": (_put(f"{_SLOT}/area/offset", "4096"), "luks2.keyslots.0.area.offset"),
    "area-size": (_put(f"{_SLOT}/area/size", "1073741824"), "luks2.keyslots.0.area.size"),
    "payload": (_put(f"{_SEGMENT}/offset", "32768"), "luks2.segments.0.offset"),
    "payload-size": (_put(f"{_SEGMENT}/size", "4096"), "luks2.segments.0.size"),
    "linear": (_put(f"{_SEGMENT}/type", "linear"), "luks2.segments.0.type"),
    "iv-tweak": (_put(f"{_SEGMENT}/iv_tweak", "8"), "luks2.segments.0.iv_tweak"),
    "sector-size": (_put(f"{_SEGMENT}/sector_size", 512), "luks2.segments.0.sector_size"),
    "stripes": (_put(f"{_SLOT}/af/stripes", 1), "luks2.keyslots.0.af.stripes"),
    "key-size": (_put(f"{_SLOT}/key_size", 32), "luks2.keyslots.0.key_size"),
    "key-size-true": (_put(f"{_SLOT}/key_size", value=True), "luks2.keyslots.0.key_size"),
    "kdf": (_put(f"{_SLOT}/kdf/type", "argon2id"), "luks2.keyslots.0.kdf.type"),
    "bomb": (_put(f"{_SLOT}/kdf/iterations", 1 << 31), "luks2.keyslots.0.kdf.iterations"),
    "digest-bomb": (_put(f"{_DIGEST}/iterations", 1 << 31), "luks2.digests.0.iterations"),
    "few": (_put(f"{_SLOT}/kdf/iterations", 1), "luks2.keyslots.0.kdf.iterations"),
    "true": (_put(f"{_SLOT}/kdf/iterations", value=True), "luks2.keyslots.0.kdf.iterations"),
    "salt": (_put(f"{_SLOT}/kdf/salt", "AAAA"), "luks2.keyslots.0.kdf.salt"),
    "digest": (_put(f"{_DIGEST}/digest", ""), "luks2.digests.0.digest"),
    "keyslots-size": (_put("config/keyslots_size", "0"), "luks2.config.keyslots_size"),
}
"""Row 41: areas elsewhere, other sizes, and work without end."""
