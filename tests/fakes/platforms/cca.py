"""A realm's monitor in a few lines: tokens by the RMM specification, with signatures of nobody.

Encoded here a second time, from RFC 8949, and not with the project's reader in mind: every item has
its shortest head.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


def head(major: int, argument: int) -> bytes:
    for short, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 24:
            return bytes((major << 5 | argument,))
        if argument < 1 << 8 * size:
            return bytes((major << 5 | short,)) + argument.to_bytes(size, "big")
    raise AssertionError


def encode(value: object) -> bytes:
    match value:
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(encode, value))
        case Mapping():
            pairs = (encode(key) + encode(one) for key, one in value.items())
            return head(5, len(value)) + b"".join(pairs)
        case _:
            raise AssertionError


def tagged(tag: int, encoded: bytes) -> bytes:
    return head(6, tag) + encoded


def sign1(claims: Mapping[int, object]) -> bytes:
    """COSE_Sign1, with ES384 for its algorithm."""
    return tagged(18, encode([encode({1: -35}), {}, encode(claims), bytes(96)]))


@dataclass(kw_only=True)
class FakeRealm:
    """One realm; `changes` replace or (None) remove claims."""

    personalization: bytes = bytes(64)
    changes: dict[int, object] = field(default_factory=dict)

    def claims(self, challenge: bytes) -> dict[int, object]:
        measurement = hashlib.sha384(b"image").digest()
        claims = {
            265: "tag:arm.com,2023:realm#1.0.0",
            10: challenge,
            44235: self.personalization,
            44236: "sha-384",
            44237: bytes(97),
            44238: measurement,
            44239: [bytes(48)] * 4,
            44240: "sha-256",
            **self.changes,
        }
        return {key: value for key, value in claims.items() if value is not None}

    def token(self, challenge: bytes) -> bytes:
        platform = sign1({10: bytes(32), 2399: [{2: bytes(32), 5: bytes(32), 1: "BL"}]})
        realm = sign1(self.claims(challenge))
        return tagged(399, encode({44234: platform, 44241: realm}))
