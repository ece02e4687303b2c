"""The job of the `unwrap` child: unwrap an image's layer keys with one key of the KBS.

The one key comes by pipe, for this job only. A key for packets is 32 bytes; any other is a private
key (PKCS #8 or the older forms, PEM or DER, without a password) for JWE and CMS. A wrap may be
meant for somebody else: JWE names no recipient, so the key is tried on each. A wrap that it does
not open is no error here; a layer that no key opens is one for the caller.
"""

from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.kbs.concat_kdf import concat_kdf
from ccinit.formats.kbs.jwe_message import (
    EphemeralKey,
    JweMessage,
    JweRecipient,
    KeyAlgorithm,
    parse_jwe_message,
)
from ccinit.formats.oci.cms import EnvelopedData, parse_enveloped_data
from ccinit.formats.oci.layer_encryption import (
    KEY_BYTES,
    KeyPacket,
    KeyWrap,
    PacketCipher,
    WrapScheme,
    is_packet_key,
    parse_key_packet,
    parse_private_options,
)
from ccinit.pull.messages.layers import KEY_PIPE, UnwrappedKey, UnwrapReply, UnwrapRequest
from ccinit.secret import Secret

MIN_RSA_BITS = 2048

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_OAEP_HASHES = {KeyAlgorithm.RSA_OAEP: hashes.SHA1, KeyAlgorithm.RSA_OAEP_256: hashes.SHA256}


class UnwrapChannel(Protocol):
    """The job's connection to the outside: the key."""

    def read_secret(self, name: str, /) -> Secret:
        """Read the pipe `name`."""


def unwrap_job(request: UnwrapRequest, channel: UnwrapChannel) -> UnwrapReply:
    """Unwrap the layer keys that the key opens.

    Raises:
        FormatError: `enc.…`: the key, a wrap, or what was in one is malformed.
        VerificationError: `enc.packet.decrypt`, a packet that names this key does not fit it.
    """
    opened: dict[int, UnwrappedKey] = {}
    with channel.read_secret(KEY_PIPE) as secret:
        key = secret.reveal()
        private = None if is_packet_key(len(key)) else load_private_key(key)
        for one in request.wrapped:
            options = _open(one.wrap, key, private) if one.position not in opened else None
            if options is None:
                continue
            layer_key = parse_private_options(options, one.nonce)
            opened[one.position] = UnwrappedKey(position=one.position, key=layer_key)
    return UnwrapReply(keys=tuple(opened.values()))


def _open(wrap: KeyWrap, key: bytes, private: PrivateKey | None) -> bytes | None:
    if wrap.scheme is WrapScheme.PROVIDER:
        return open_packet(parse_key_packet(wrap.data), key) if private is None else None
    if private is None:
        return None
    if wrap.scheme is WrapScheme.JWE:
        return open_jwe(parse_jwe_message(wrap.data), private)
    return open_enveloped(parse_enveloped_data(wrap.data), private)


def load_private_key(data: bytes) -> PrivateKey:
    """Read a private key for JWE or CMS.

    Raises:
        FormatError: `enc.key`.
    """
    load = (
        serialization.load_pem_private_key
        if data.lstrip().startswith(b"-----BEGIN")
        else serialization.load_der_private_key
    )
    try:
        key = load(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own text may quote the key.
        raise FormatError("enc.key", "neither 32 bytes nor a private key") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in {
        curve.name for curve in _CURVES.values()
    }:
        return key
    raise FormatError("enc.key", f"neither RSA of {MIN_RSA_BITS} bits nor on a NIST curve")


def open_packet(packet: KeyPacket, key: bytes) -> bytes:
    """Return the private options in a CoCo packet.

    Raises:
        VerificationError: `enc.packet.decrypt`; with A256CTR, which has no tag, a wrong key shows
            only later.
    """
    if packet.cipher is PacketCipher.CTR:
        decryptor = Cipher(algorithms.AES(key), modes.CTR(packet.iv)).decryptor()
        return decryptor.update(packet.wrapped) + decryptor.finalize()
    try:
        return AESGCM(key).decrypt(packet.iv, packet.wrapped, None)
    except InvalidTag:
        raise VerificationError("enc.packet.decrypt", f"{packet.kek} does not open it") from None


def open_jwe(message: JweMessage, private: PrivateKey) -> bytes | None:
    """Return the plaintext if the message has a recipient whose key this is."""
    for recipient in message.recipients:
        content_key = _content_key(recipient, private)
        if content_key is None or len(content_key) != KEY_BYTES:
            continue
        try:
            sealed = message.ciphertext + message.tag
            return AESGCM(content_key).decrypt(message.iv, sealed, message.additional_data)
        except InvalidTag:
            continue
    return None


def _content_key(recipient: JweRecipient, private: PrivateKey) -> bytes | None:
    oaep_hash = _OAEP_HASHES.get(recipient.algorithm)
    if oaep_hash is not None:
        return _decrypt_oaep(recipient.encrypted_key, private, oaep_hash())
    if recipient.ephemeral is None or not isinstance(private, ec.EllipticCurvePrivateKey):
        return None
    shared = _agree(private, recipient.ephemeral)
    if shared is None:
        return None
    length = recipient.algorithm.wrapping_key_bytes
    try:
        wrapping_key = concat_kdf(shared, recipient.algorithm, length)
        return aes_key_unwrap(wrapping_key, recipient.encrypted_key)
    except InvalidUnwrap:
        return None


def _decrypt_oaep(
    encrypted_key: bytes, private: PrivateKey, algorithm: hashes.HashAlgorithm
) -> bytes | None:
    if not isinstance(private, rsa.RSAPrivateKey):
        return None
    try:
        return private.decrypt(
            encrypted_key,
            padding.OAEP(mgf=padding.MGF1(algorithm), algorithm=algorithm, label=None),
        )
    except ValueError:
        return None


def _agree(private: ec.EllipticCurvePrivateKey, peer: EphemeralKey) -> bytes | None:
    """Return the shared x-coordinate; None for a key on another curve."""
    curve = _CURVES.get(peer.curve)
    if curve is None or private.curve.name != curve.name:
        return None
    try:
        public = ec.EllipticCurvePublicNumbers(peer.x, peer.y, curve).public_key()
    except ValueError:
        raise FormatError("enc.jwe.epk", f"the point is not on {peer.curve}") from None
    return private.exchange(ec.ECDH(), public)


def open_enveloped(message: EnvelopedData, private: PrivateKey) -> bytes | None:
    """Return the plaintext if the message has a recipient whose key this is."""
    if not isinstance(private, rsa.RSAPrivateKey):
        return None
    for encrypted_key in message.encrypted_keys:
        try:
            # With a wrong key OpenSSL returns a random one, with which the tag does not match.
            content_key = private.decrypt(encrypted_key, padding.PKCS1v15())
            if len(content_key) == message.key_bytes:
                return AESGCM(content_key).decrypt(message.nonce, message.ciphertext, None)
        except (ValueError, InvalidTag):
            continue
    return None
