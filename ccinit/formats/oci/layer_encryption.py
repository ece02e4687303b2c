"""What an encrypted layer's descriptor says (ocicrypt; no ratified specification exists).

    …enc.pubopts          cipher and HMAC-SHA256 of the ciphertext, not encrypted
    …enc.keys.jwe         private options, wrapped to public keys (RFC 7516)
    …enc.keys.pkcs7       likewise (RFC 5652)
    …enc.keys.provider.*  likewise, with a key of the KBS: the packets of CoCo, versions 1 and 2

The only cipher is AES-256-CTR with HMAC-SHA256 over the ciphertext under the same key. Wraps of
other schemes are ignored if there is one of ours. Only the private options are secret;
`pull.encryption` opens the wraps.
"""

from collections.abc import Mapping
from enum import StrEnum

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, parse_json
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.values import field, frozen

PREFIX = "org.opencontainers.image.enc."
PUBLIC_OPTIONS = f"{PREFIX}pubopts"
WRAPPED_KEYS = f"{PREFIX}keys."
CIPHER = "AES_256_CTR_HMAC_SHA256"
ENCRYPTED_SUFFIX = "+encrypted"

KEY_BYTES = 32
NONCE_BYTES = 16
HMAC_BYTES = 32
MAX_WRAPS = 16
MAX_WRAP_BYTES = 16 * 1024
MAX_OPTIONS_BYTES = 4096
_PACKET_VERSION = "0.1.0"
_PACKET_PROVIDER = "kbs"


class ImageEncryption(StrEnum):
    """Which layers of an image have to be encrypted: all, any, or none."""

    REQUIRED = "required"
    ALLOWED = "allowed"
    NONE = "none"


class WrapScheme(StrEnum):
    """How the private options are wrapped."""

    JWE = "jwe"
    PKCS7 = "pkcs7"
    PROVIDER = "provider"


class PacketCipher(StrEnum):
    """How a key of the KBS encrypts the private options."""

    GCM = "A256GCM"
    CTR = "A256CTR"


_PACKET_IV_BYTES = {PacketCipher.GCM: 12, PacketCipher.CTR: 16}


@frozen
class KeyWrap:
    """One wrap of a layer's private options, as the annotation has it.

    Attributes:
        kek: for a packet, the KBS resource whose key opens it.
    """

    scheme: WrapScheme
    data: bytes
    kek: ResourceUri | None


@frozen
class LayerEncryption:
    """Public facts of one encrypted layer.

    Attributes:
        hmac: of the ciphertext.
        nonce: initial counter block; empty if that is a private option.
        wraps: in the order of the schemes above; at least one.
    """

    hmac: bytes
    nonce: bytes
    wraps: tuple[KeyWrap, ...]


@frozen
class KeyPacket:
    """Private options under a key of the KBS; nothing binds it to its layer but the HMAC."""

    kek: ResourceUri
    cipher: PacketCipher
    iv: bytes
    wrapped: bytes = field(repr=False)


@frozen
class LayerKey:
    """What decrypts a layer: the key, and the initial counter block."""

    key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


def parse_layer_encryption(annotations: JsonValue) -> LayerEncryption:
    """Read the annotations of an encrypted layer's descriptor.

    Raises:
        FormatError: `enc.…`.
        LimitExceededError: `enc.…`, a count or length beyond its cap.
    """
    if not isinstance(annotations, Mapping):
        raise FormatError("enc.annotations", "an encrypted layer without annotations")
    options = _object(
        _decoded_json(annotations.get(PUBLIC_OPTIONS), "enc.pubopts"),
        "enc.pubopts",
        required=frozenset(("cipher", "hmac")),
        optional=frozenset(("cipheroptions",)),
    )
    if options["cipher"] != CIPHER:
        raise FormatError("enc.cipher", f"only {CIPHER} is accepted")
    hmac = decode_base64(options["hmac"], "enc.hmac", HMAC_BYTES, HMAC_BYTES)
    wraps = tuple(
        wrap
        for scheme in WrapScheme
        for name, value in annotations.items()
        if _scheme(name) is scheme
        for wrap in _parse_wraps(scheme, value)
    )
    if not wraps:
        raise FormatError("enc.keys", "no wrap of a scheme that this guest knows")
    if len(wraps) > MAX_WRAPS:
        raise LimitExceededError(
            "enc.keys", f"expected at most {MAX_WRAPS} wraps, found {len(wraps)}"
        )
    return LayerEncryption(hmac=hmac, nonce=_nonce(options, "enc.pubopts"), wraps=wraps)


def _scheme(annotation: str) -> WrapScheme | None:
    if not annotation.startswith(WRAPPED_KEYS):
        return None
    name, dot, provider = annotation.removeprefix(WRAPPED_KEYS).partition(".")
    # The provider's name is not used: implementations in Go and Rust disagree on its meaning.
    if name == WrapScheme.PROVIDER:
        return WrapScheme.PROVIDER if provider else None
    return None if dot or name not in set(WrapScheme) else WrapScheme(name)


def _parse_wraps(scheme: WrapScheme, value: JsonValue) -> tuple[KeyWrap, ...]:
    if not isinstance(value, str):
        raise FormatError("enc.keys", "an annotation is text")
    texts = value.split(",")
    if len(texts) > MAX_WRAPS:
        raise LimitExceededError(
            "enc.keys", f"expected at most {MAX_WRAPS} wraps, found {len(texts)}"
        )
    return tuple(_parse_wrap(scheme, text) for text in texts)


def _parse_wrap(scheme: WrapScheme, text: str) -> KeyWrap:
    if len(text) > 2 * MAX_WRAP_BYTES:
        raise LimitExceededError("enc.wrap", f"more than {MAX_WRAP_BYTES} bytes")
    data = decode_base64(text, "enc.wrap")
    if len(data) > MAX_WRAP_BYTES:
        raise LimitExceededError(
            "enc.wrap", f"expected at most {MAX_WRAP_BYTES} bytes, found {len(data)}"
        )
    kek = parse_key_packet(data).kek if scheme is WrapScheme.PROVIDER else None
    return KeyWrap(scheme=scheme, data=data, kek=kek)


def parse_key_packet(data: bytes) -> KeyPacket:
    """Read a CoCo annotation packet, whose key has to be one of this guest's own KBS.

    Raises:
        FormatError: `enc.packet…`; `enc.packet.provider` if another service has the key.
    """
    packet = _object(
        parse_json(data, "enc.packet", MAX_WRAP_BYTES),
        "enc.packet",
        required=frozenset(("kid", "wrapped_data", "iv", "wrap_type")),
        optional=frozenset(("version", "provider", "provider_settings", "annotations")),
    )
    if packet.get("version", _PACKET_VERSION) != _PACKET_VERSION:
        raise FormatError("enc.packet.version", f"only {_PACKET_VERSION} is known")
    # Settings would lead to another service than the KBS of the measured configuration.
    if packet.get("provider", _PACKET_PROVIDER) != _PACKET_PROVIDER or any(
        packet.get(member) for member in ("provider_settings", "annotations")
    ):
        raise FormatError("enc.packet.provider", "only the guest's own KBS has keys")
    wrap_type = packet["wrap_type"]
    if wrap_type not in tuple(PacketCipher):
        raise FormatError("enc.packet.wrap_type", f"none of: {', '.join(PacketCipher)}")
    cipher = PacketCipher(str(wrap_type))
    iv_bytes = _PACKET_IV_BYTES[cipher]
    return KeyPacket(
        kek=parse_resource_uri(_text(packet["kid"], "enc.packet.kid"), "enc.packet.kid"),
        cipher=cipher,
        iv=decode_base64(packet["iv"], "enc.packet.iv", iv_bytes, iv_bytes),
        wrapped=decode_base64(packet["wrapped_data"], "enc.packet.wrapped_data"),
    )


def parse_private_options(data: bytes, public_nonce: bytes) -> LayerKey:
    """Read the private options that a wrap held.

    Their `digest`, of the layer before encryption, is not used: it is only the encrypting party's
    statement, and the diff_id already says the same.

    Args:
        data: the unwrapped bytes.
        public_nonce: the nonce in the public options, or empty.

    Raises:
        FormatError: `enc.private…`; `enc.nonce`, none or two different ones.
    """
    options = _object(
        parse_json(data, "enc.private", MAX_OPTIONS_BYTES),
        "enc.private",
        required=frozenset(("symkey",)),
        optional=frozenset(("digest", "cipheroptions")),
    )
    nonces = {_nonce(options, "enc.private"), public_nonce} - {b""}
    if len(nonces) != 1:
        raise FormatError("enc.nonce", f"expected one nonce, found {len(nonces)}")
    return LayerKey(
        key=decode_base64(options["symkey"], "enc.private.symkey", KEY_BYTES, KEY_BYTES),
        nonce=nonces.pop(),
    )


def is_packet_key(length_bytes: int) -> bool:
    """Whether a key of this length is one for packets; every private key is longer."""
    return length_bytes == KEY_BYTES


def join_keys(keys: tuple[LayerKey, ...]) -> bytes:
    """Return the keys of several layers as one secret."""
    return b"".join(key.key + key.nonce for key in keys)


def split_keys(data: bytes, count: int) -> tuple[LayerKey, ...]:
    """Return the keys that `join_keys` has joined.

    Raises:
        FormatError: `enc.keys`.
    """
    length = KEY_BYTES + NONCE_BYTES
    if len(data) != count * length:
        raise FormatError("enc.keys", f"{len(data)} bytes are not {count} keys")
    parts = (data[start : start + length] for start in range(0, len(data), length))
    return tuple(LayerKey(key=part[:KEY_BYTES], nonce=part[KEY_BYTES:]) for part in parts)


def _nonce(options: Mapping[str, JsonValue], where: str) -> bytes:
    value = options.get("cipheroptions")
    if not value:
        return b""
    members = _object(value, f"{where}.cipheroptions", frozenset(), frozenset(("nonce",)))
    return decode_base64(members["nonce"], "enc.nonce", NONCE_BYTES, NONCE_BYTES)


def _decoded_json(value: JsonValue, where: str) -> JsonValue:
    text = _text(value, where)
    if len(text) > 2 * MAX_OPTIONS_BYTES:
        raise LimitExceededError(where, f"more than {MAX_OPTIONS_BYTES} bytes")
    return parse_json(decode_base64(text, where), where, MAX_OPTIONS_BYTES)


def _object(
    value: JsonValue, where: str, required: frozenset[str], optional: frozenset[str]
) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping) or not required <= set(value) <= required | optional:
        raise FormatError(f"{where}.members", "missing or unknown members, or no object")
    return value


def _text(value: JsonValue, reason: str) -> str:
    if not isinstance(value, str):
        raise FormatError(reason, "missing, or no text")
    return value
