"""Decrypting what a KBS released: flattened JWE for the one key that the session offered.

RFC 7516 section 7.2.2 and 5.2, RFC 7518 sections 4.3, 4.6 and 5.3, RFC 3394. The key decides the
algorithm: ECDH-ES+A256KW on its own curve, or RSA-OAEP-256, with A256GCM, and nothing else. Every
choice in the header is compared with that before the first decryption. From there on, all failures
are the same error, so that a sender cannot learn which step failed. The additional data is the
`protected` text as received. Keys are in `ccinit.attest.tee_key`; `ccinit.formats.kbs.envelope`
checks that the plaintext is the resource that was asked for.
"""

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from ccinit.attest.tee_key import EcTeeKey, TeeKey, undecryptable
from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64url, members, parse_json
from ccinit.formats.kbs.concat_kdf import concat_kdf
from ccinit.formats.kbs.jwk import ECDH_ALGORITHM, EcPublicJwk, PublicJwk, parse_epk
from ccinit.formats.kbs.release import MAX_ENCRYPTED_BYTES
from ccinit.secret import Secret
from ccinit.values import frozen

CONTENT_ALGORITHM = "A256GCM"
MAX_HEADER_BYTES = 4096

_KEY_BYTES = 32
_IV_BYTES = 12
_TAG_BYTES = 16
_MEMBERS = frozenset(("protected", "encrypted_key", "iv", "ciphertext", "tag"))


@frozen
class Jwe:
    """A JWE with the pinned algorithms; nothing in it is trusted yet.

    Attributes:
        additional_data: ASCII bytes of the `protected` text.
        ephemeral_key: the sender's key, a point on the recipient's curve; None with RSA.
    """

    additional_data: bytes
    ephemeral_key: EcPublicJwk | None
    encrypted_key: bytes
    iv: bytes
    ciphertext: bytes
    tag: bytes


def parse_jwe(data: bytes, recipient: PublicJwk) -> Jwe:
    """Parse a flattened JWE and refuse every choice but that of the `recipient`'s key.

    `aad`, `header` and `unprotected` are refused as unknown members; `zip`, `crit`, `jku`, `apu`
    and all others as unknown members of the header.

    Raises:
        FormatError: `jwe.…` or, for the ephemeral key, `jwk.…`.
    """
    value = members(parse_json(data, "jwe", MAX_ENCRYPTED_BYTES), _MEMBERS, "jwe")
    header = parse_json(
        decode_base64url(value["protected"], "jwe.protected"), "jwe.header", MAX_HEADER_BYTES
    )
    if not isinstance(header, Mapping):
        raise FormatError("jwe.header.type", "expected an object")
    return Jwe(
        additional_data=str(value["protected"]).encode(),  # decoded above, so ASCII text
        ephemeral_key=_read_header(header, recipient),
        encrypted_key=decode_base64url(value["encrypted_key"], "jwe.encrypted_key"),
        iv=decode_base64url(value["iv"], "jwe.iv"),
        ciphertext=decode_base64url(value["ciphertext"], "jwe.ciphertext"),
        tag=decode_base64url(value["tag"], "jwe.tag"),
    )


def _read_header(header: Mapping[str, JsonValue], recipient: PublicJwk) -> EcPublicJwk | None:
    for member, expected in (("alg", recipient.algorithm), ("enc", CONTENT_ALGORITHM)):
        if header.get(member) != expected:
            raise FormatError(f"jwe.{member}", f"only {expected} is accepted")
    if not isinstance(recipient, EcPublicJwk):
        members(header, frozenset(("alg", "enc")), "jwe.header")
        return None
    members(header, frozenset(("alg", "enc", "epk")), "jwe.header")
    return parse_epk(header["epk"], recipient.curve)


def decrypt_jwe(data: bytes, key: TeeKey) -> Secret:
    """Return the plaintext of a flattened JWE that was encrypted to `key`.

    Raises:
        FormatError: the text or its choices, see `parse_jwe`.
        VerificationError: `jwe.decrypt`, for every cause.
    """
    jwe = parse_jwe(data, key.public_jwk)
    with _decrypt_key(jwe, key) as content_key:
        return decrypt_content(
            content_key.reveal(),
            iv=jwe.iv,
            ciphertext=jwe.ciphertext,
            tag=jwe.tag,
            additional_data=jwe.additional_data,
        )


def _decrypt_key(jwe: Jwe, key: TeeKey) -> Secret:
    if not isinstance(key, EcTeeKey):
        return key.decrypt(jwe.encrypted_key)
    if jwe.ephemeral_key is None:
        raise RuntimeError("a reply to a key on a curve is parsed with its ephemeral key")
    with key.agree(jwe.ephemeral_key) as shared:
        wrapping_key = concat_kdf(shared.reveal(), ECDH_ALGORITHM, _KEY_BYTES)
    return unwrap_key(wrapping_key, jwe.encrypted_key)


def unwrap_key(wrapping_key: bytes, wrapped: bytes) -> Secret:
    """Undo AES Key Wrap (RFC 3394 section 2.2.2).

    Raises:
        VerificationError: `jwe.decrypt`.
    """
    try:
        return Secret(aes_key_unwrap(wrapping_key, wrapped))
    except (InvalidUnwrap, ValueError):
        # Neither cause nor context: the exception chain would reveal the step.
        raise undecryptable() from None


def decrypt_content(
    content_key: bytes, *, iv: bytes, ciphertext: bytes, tag: bytes, additional_data: bytes
) -> Secret:
    """Decrypt A256GCM content (RFC 7518 section 5.3).

    Raises:
        VerificationError: `jwe.decrypt`.
    """
    if (len(content_key), len(iv), len(tag)) != (_KEY_BYTES, _IV_BYTES, _TAG_BYTES):
        raise undecryptable()
    try:
        return Secret(AESGCM(content_key).decrypt(iv, ciphertext + tag, additional_data))
    except InvalidTag:
        raise undecryptable() from None
