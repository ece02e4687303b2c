"""Resources that are made for whoever asks instead of stored: the orders for them.

An order stands in the state directory in the place of a body, and says what to make. Only TLS
identities are ordered so far; who makes them is passed to the broker, since the authority that
signs them is the owner plane's and not the KBS's.

    {"version": 1, "kind": "tls-identity", "life_seconds": 86400}
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ccinit.errors import FormatError
from ccinit.formats.envelope import EnvelopeKind
from ccinit.formats.fields import Fields

MAX_ORDER_BYTES = 4096
MIN_LIFE_SECONDS, MAX_LIFE_SECONDS = 60, 7 * 24 * 3600


class _Orderable(StrEnum):
    TLS_IDENTITY = EnvelopeKind.TLS_IDENTITY.value


@dataclass(frozen=True, slots=True)
class MintOrder:
    """An order for TLS identities that live this long."""

    life_seconds: int

    def __post_init__(self) -> None:
        if not MIN_LIFE_SECONDS <= self.life_seconds <= MAX_LIFE_SECONDS:
            raise FormatError(
                "mint.life", f"expected {MIN_LIFE_SECONDS} to {MAX_LIFE_SECONDS} seconds"
            )


@dataclass(frozen=True, slots=True)
class MintedIdentity:
    """What was made; `repr` leaves the key out.

    Attributes:
        data: of the resource.
        fingerprint: SHA-256 of the certificate in hex, for the audit log.
    """

    data: bytes
    fingerprint: str

    def __repr__(self) -> str:
        return f"MintedIdentity({self.fingerprint})"


class IdentityMinter(Protocol):
    """Makes the TLS identity of one boot."""

    def __call__(self, *, pod: str, session: str, life_seconds: int) -> MintedIdentity:
        """Return a new key and its certificate for a guest that runs `pod`."""


def parse_order(data: bytes) -> MintOrder:
    """Read an order.

    Raises:
        FormatError: below `mint`.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError("mint.json", "malformed JSON") from error
    with Fields(value, "mint") as fields:
        fields.integer("version", low=1, high=1)
        fields.choice("kind", _Orderable)
        return MintOrder(fields.integer("life_seconds", low=0, high=2**31))


def encode_order(order: MintOrder) -> bytes:
    """Encode an order as `parse_order` reads it."""
    value = {
        "version": 1,
        "kind": _Orderable.TLS_IDENTITY.value,
        "life_seconds": order.life_seconds,
    }
    return json.dumps(value).encode() + b"\n"
