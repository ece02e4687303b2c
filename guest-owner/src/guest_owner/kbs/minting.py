"""Orders for resources that are minted for each guest that asks, instead of being stored.

In the state directory an order takes the place of a body, and says what to mint. The minter of TLS
identities is passed to the broker, since the authority that signs them belongs to the owner plane
and not to the KBS. A debug grant names the key that the guest has just attested with, so it could
not be a stored body; an order for grants expires when its grants do.

    {"version": 1, "kind": "tls-identity", "life_seconds": 86400}
    {"version": 1, "kind": "debug-grant", "expires_s": 1900000000, "tools_root": "…64 hex digits…",
     "keep_pod": false}
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.disk.verity import HASH_BYTES, RootHash
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.kbs.debug_grant import DebugGrant, encode_debug_grant
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.jwk import PublicJwk

MAX_ORDER_BYTES = 4096
MIN_LIFE_SECONDS, MAX_LIFE_SECONDS = 60, 7 * 24 * 3600


class _Orderable(StrEnum):
    TLS_IDENTITY = EnvelopeKind.TLS_IDENTITY.value
    DEBUG_GRANT = EnvelopeKind.DEBUG_GRANT.value


@dataclass(frozen=True, slots=True)
class IdentityOrder:
    """An order for TLS identities that live this long."""

    life_seconds: int

    def __post_init__(self) -> None:
        if not MIN_LIFE_SECONDS <= self.life_seconds <= MAX_LIFE_SECONDS:
            raise FormatError(
                "mint.life", f"expected {MIN_LIFE_SECONDS} to {MAX_LIFE_SECONDS} seconds"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugOrder:
    """An order for debug grants; see `ccinit.formats.kbs.debug_grant.DebugGrant`."""

    expires_s: int
    tools_root: RootHash
    keep_pod: bool


Order = IdentityOrder | DebugOrder


@dataclass(frozen=True, slots=True)
class MintedIdentity:
    """A new TLS identity; `repr` leaves the key out.

    Attributes:
        data: content of the resource.
        fingerprint: SHA-256 of the certificate in hex, for the audit log.
    """

    data: bytes
    fingerprint: str

    def __repr__(self) -> str:
        return f"MintedIdentity({self.fingerprint})"


class IdentityMinter(Protocol):
    """Makes TLS identities, a new one each time that a session asks."""

    def __call__(self, *, pod: str, session: str, life_seconds: int) -> MintedIdentity:
        """Return a new key and its certificate for a guest that runs `pod`."""


def mint_debug_grant(order: DebugOrder, session_key: PublicJwk, now_s: float) -> bytes:
    """Return the data of a grant for the guest that has attested with `session_key`.

    Raises:
        VerificationError: `mint.expired`, the order has ended.
    """
    if order.expires_s <= now_s:
        raise VerificationError("mint.expired", "the time that `debug grant` gave is over")
    return encode_debug_grant(
        DebugGrant(
            evidence_key=session_key.thumbprint(),
            expires_s=order.expires_s,
            tools_root=order.tools_root,
            keep_pod=order.keep_pod,
        )
    )


def parse_order(data: bytes) -> Order:
    """Read an order.

    Raises:
        FormatError: below `mint`.
    """
    with Fields(parse_json(data, "mint", MAX_ORDER_BYTES), "mint") as fields:
        fields.integer("version", low=1, high=1)
        kind = fields.choice("kind", _Orderable)
        if kind is _Orderable.TLS_IDENTITY:
            return IdentityOrder(fields.integer("life_seconds", low=0, high=2**31))
        return DebugOrder(
            expires_s=fields.integer("expires_s", low=0, high=2**40),
            tools_root=RootHash(fields.hexadecimal("tools_root", size_bytes=HASH_BYTES)),
            keep_pod=fields.boolean("keep_pod"),
        )


def encode_order(order: Order) -> bytes:
    """Encode an order as `parse_order` reads it."""
    value: dict[str, object]
    match order:
        case IdentityOrder(life_seconds):
            value = {"kind": _Orderable.TLS_IDENTITY.value, "life_seconds": life_seconds}
        case DebugOrder():
            value = {
                "kind": _Orderable.DEBUG_GRANT.value,
                "expires_s": order.expires_s,
                "tools_root": order.tools_root.hex(),
                "keep_pod": order.keep_pod,
            }
    return json.dumps({"version": 1} | value).encode() + b"\n"
