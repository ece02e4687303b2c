"""A JWE for several recipients, as ocicrypt writes it (RFC 7516 sections 7.2.1 and 7.2.2).

Both JSON serialisations are read: for one recipient writers use the flattened one, with `alg` in
the protected header; for several, each has a header of its own. Content is A256GCM; a recipient's
algorithm is RSA-OAEP with SHA-1 or SHA-256, or ECDH-ES with AES key wrap. A KBS replies in a
narrower form, which `attest.jwe` reads. Decrypting is left to `pull.encryption`.
"""

from collections.abc import Mapping
from enum import StrEnum

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64url, parse_json
from ccinit.values import frozen

CONTENT_ALGORITHM = "A256GCM"
IV_BYTES = 12
TAG_BYTES = 16
MAX_MESSAGE_BYTES = 16 * 1024
MAX_RECIPIENTS = 16

_SHARED = frozenset(("protected", "iv", "ciphertext", "tag"))
_FLATTENED = _SHARED | {"encrypted_key"}
_GENERAL = _SHARED | {"recipients"}
_HEADER_MEMBERS = frozenset(("alg", "enc", "epk", "kid"))


class KeyAlgorithm(StrEnum):
    """How the content key is encrypted to a recipient (RFC 7518 section 4.1)."""

    RSA_OAEP = "RSA-OAEP"
    RSA_OAEP_256 = "RSA-OAEP-256"
    ECDH_ES_A128KW = "ECDH-ES+A128KW"
    ECDH_ES_A192KW = "ECDH-ES+A192KW"
    ECDH_ES_A256KW = "ECDH-ES+A256KW"

    @property
    def wrapping_key_bytes(self) -> int:
        """Length of the AES key that wraps the content key; 0 for RSA."""
        return int(self[-5:-2]) // 8 if self.startswith("ECDH") else 0


@frozen
class EphemeralKey:
    """The sender's key: a curve's name and two coordinates, not checked to be on that curve."""

    curve: str
    x: int
    y: int


@frozen
class JweRecipient:
    """The content key for one recipient; `ephemeral` is set if its algorithm is ECDH-ES."""

    algorithm: KeyAlgorithm
    encrypted_key: bytes
    ephemeral: EphemeralKey | None


@frozen
class JweMessage:
    """A parsed message; `additional_data` is the protected header as received."""

    additional_data: bytes
    recipients: tuple[JweRecipient, ...]
    iv: bytes
    ciphertext: bytes
    tag: bytes


def parse_jwe_message(data: bytes) -> JweMessage:
    """Read a message.

    Raises:
        FormatError: `enc.jwe…`, malformed, or an algorithm that is not one of ours.
    """
    value = parse_json(data, "enc.jwe", MAX_MESSAGE_BYTES)
    if not isinstance(value, Mapping):
        raise FormatError("enc.jwe.members", "expected an object")
    protected = value.get("protected")
    header = _object(
        parse_json(decode_base64url(protected, "enc.jwe.protected"), "enc.jwe.header", 4096)
    )
    message = JweMessage(
        additional_data=str(protected).encode("ascii"),
        recipients=tuple(_recipient(header, item) for item in _recipients(value)),
        iv=decode_base64url(value.get("iv"), "enc.jwe.iv"),
        ciphertext=decode_base64url(value.get("ciphertext"), "enc.jwe.ciphertext"),
        tag=decode_base64url(value.get("tag"), "enc.jwe.tag"),
    )
    if (len(message.iv), len(message.tag)) != (IV_BYTES, TAG_BYTES):
        raise FormatError("enc.jwe.iv", "expected an IV of 12 bytes and a tag of 16")
    return message


def _recipients(value: Mapping[str, JsonValue]) -> list[JsonValue]:
    """Return the recipients of either serialisation, each as the general one writes it."""
    if set(value) == _FLATTENED:
        return [{"encrypted_key": value["encrypted_key"]}]
    recipients = value.get("recipients")
    if not isinstance(recipients, list) or not recipients or set(value) - {*_GENERAL, *_FLATTENED}:
        raise FormatError("enc.jwe.members", "missing or unknown members")
    if len(recipients) > MAX_RECIPIENTS:
        detail = f"expected at most {MAX_RECIPIENTS} recipients, found {len(recipients)}"
        raise LimitExceededError("enc.jwe.recipients", detail)
    # go-jose repeats the first recipient's key outside, against section 7.2.1.
    first = _object(recipients[0]).get("encrypted_key")
    if "encrypted_key" in value and value["encrypted_key"] != first:
        raise FormatError("enc.jwe.members", "a key that belongs to no recipient")
    return recipients


def _recipient(protected: Mapping[str, JsonValue], item: JsonValue) -> JweRecipient:
    recipient = _object(item)
    own = _object(recipient.get("header", {}))
    if set(recipient) - {"header", "encrypted_key"} or set(own) & set(protected):
        raise FormatError("enc.jwe.header", "unknown members, or one that is there twice")
    header = {**protected, **own}
    if set(header) - _HEADER_MEMBERS:
        raise FormatError("enc.jwe.header", "a parameter that is not known here")
    if protected.get("enc") != CONTENT_ALGORITHM:
        raise FormatError("enc.jwe.enc", f"only {CONTENT_ALGORITHM} is accepted")
    if header.get("alg") not in tuple(KeyAlgorithm):
        raise FormatError("enc.jwe.alg", f"none of: {', '.join(KeyAlgorithm)}")
    algorithm = KeyAlgorithm(str(header["alg"]))
    return JweRecipient(
        algorithm=algorithm,
        encrypted_key=decode_base64url(recipient.get("encrypted_key"), "enc.jwe.encrypted_key"),
        ephemeral=_ephemeral(header.get("epk")) if algorithm.wrapping_key_bytes else None,
    )


def _ephemeral(value: JsonValue) -> EphemeralKey:
    key = _object(value)
    if set(key) != {"kty", "crv", "x", "y"} or key["kty"] != "EC":
        raise FormatError("enc.jwe.epk", "expected the public key of an elliptic curve")
    x, y = (decode_base64url(key[name], "enc.jwe.epk") for name in ("x", "y"))
    return EphemeralKey(
        curve=str(key["crv"]), x=int.from_bytes(x, "big"), y=int.from_bytes(y, "big")
    )


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise FormatError("enc.jwe.header", "expected an object")
    return value
