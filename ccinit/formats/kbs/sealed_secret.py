"""Sealed secrets of Confidential Containers: a text that names a secret, under a signature.

`sealed.<header>.<payload>.<signature>`, each part base64url without padding (guest-components,
docs/SEALED_SECRET.md). The signature is ES256 (RFC 7518 section 3.4) over `<header>.<payload>`, by
a key that is itself a resource. Of the two types this is `vault`, whose secret is a resource of the
KBS; `envelope` leads to key services of clouds, none of which a guest speaks to.

`ccinit.attest.sealed_secret` verifies the signature.
"""

from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import decode_base64url, members, parse_json, text_member
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri, parse_kbs_uri, parse_resource_uri
from ccinit.values import frozen

PREFIX: Final = "sealed."
SIGNATURE_BYTES: Final = 64
_MAX_PART_BYTES: Final = 2048
_HEADER: Final = frozenset(("alg", "kid"))
_PAYLOAD: Final = frozenset(
    ("version", "type", "name", "provider", "provider_settings", "annotations")
)


@frozen
class SealedSecret:
    """A signed name of a secret.

    Attributes:
        key: the resource with the public key, a JWK on P-256.
        resource: the secret.
        signed: the bytes under the signature.
        signature: r ‖ s, 32 bytes each.
    """

    key: ResourceUri
    resource: KbsUri
    signed: bytes
    signature: bytes


def parse_sealed_secret(text: str, reason: str) -> SealedSecret:
    """Read one.

    Raises:
        FormatError: `reason`, with `.header` or `.payload` behind it where one of them is wrong.
    """
    parts = text.split(".")
    if len(parts) != 4 or not text.startswith(PREFIX):
        raise FormatError(reason, "expected sealed.HEADER.PAYLOAD.SIGNATURE")
    _, header, payload, signature = parts
    raw = decode_base64url(signature, reason)
    if len(raw) != SIGNATURE_BYTES:
        raise FormatError(reason, f"a signature of {len(raw)} bytes")
    return SealedSecret(
        key=_read_header(header, f"{reason}.header"),
        resource=_read_payload(payload, f"{reason}.payload"),
        signed=f"{header}.{payload}".encode(),
        signature=raw,
    )


def _read_header(text: str, where: str) -> ResourceUri:
    value = members(
        parse_json(decode_base64url(text, where), where, _MAX_PART_BYTES), _HEADER, where
    )
    if value["alg"] != "ES256":
        raise FormatError(where, "signed by something else than ES256")
    return parse_resource_uri(text_member(value, "kid", where), where)


def _read_payload(text: str, where: str) -> KbsUri:
    parsed = parse_json(decode_base64url(text, where), where, _MAX_PART_BYTES)
    if isinstance(parsed, dict) and parsed.get("type") == "envelope":
        raise FormatError(where, "of type envelope, whose key is kept by a cloud's service")
    value = members(parsed, _PAYLOAD, where)
    kind = (value["version"], value["type"], value["provider"])
    if kind != ("0.1.0", "vault", "kbs"):
        raise FormatError(where, "expected version 0.1.0, type vault, provider kbs")
    if value["provider_settings"] != {} or value["annotations"] != {}:
        raise FormatError(where, "settings and annotations have no meaning for a KBS")
    return parse_kbs_uri(text_member(value, "name", where), where)
