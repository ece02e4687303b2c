"""A Sigstore bundle, version 0.3: a signature with all that is needed to check it offline.

sigstore/protobuf-specs, `sigstore_bundle.proto`, in its JSON form. Read are the signer (a key that
the verifier knows, or one certificate), log entries with an inclusion promise, and the content (a
signature over the artifact, or a DSSE envelope). Inclusion proofs and timestamps of other services
are not read; where a policy demands a log, an entry without a promise is not enough.
"""

from collections.abc import Mapping

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64, parse_json
from ccinit.formats.signature.rekor import LogEntry, make_entry
from ccinit.values import frozen

MAX_BUNDLE_BYTES = 256 * 1024
_MAX_ENTRIES = 8
_SHA256_BYTES = 32
_WHERE = "signature.bundle"
# A protobuf `oneof`; only older versions have the chain.
_SIGNERS = ("certificate", "publicKey", "x509CertificateChain")
MEDIA_TYPES = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
)


@frozen
class MessageSignature:
    """A signature over the artifact itself; `sha256` is the digest it claims to be over."""

    sha256: bytes
    signature: bytes


@frozen
class DsseEnvelope:
    """A signature over the pre-authentication encoding of a typed payload."""

    payload_type: str
    payload: bytes
    signature: bytes


@frozen
class SigstoreBundle:
    """One bundle; nothing of it is verified.

    Attributes:
        certificate: the signer's, DER; None if the verifier has to know the key.
        entries: of transparency logs; only those with a promise.
    """

    certificate: bytes | None
    entries: tuple[LogEntry, ...]
    content: MessageSignature | DsseEnvelope


def parse_bundle(data: bytes) -> SigstoreBundle:
    """Parse a bundle.

    Raises:
        FormatError: `signature.bundle.…`, `signature.rekor.…`.
    """
    value = _object(parse_json(data, _WHERE, MAX_BUNDLE_BYTES), "bundle")
    if value.get("mediaType") not in MEDIA_TYPES:
        raise FormatError(f"{_WHERE}.version", "not a bundle of version 0.3")
    material = _object(value.get("verificationMaterial"), "verificationMaterial")
    signers = [name for name in _SIGNERS if name in material]
    if signers not in (["certificate"], ["publicKey"]):
        raise FormatError(f"{_WHERE}.signer", "expected either a certificate or a public key")
    if ("messageSignature" in value) == ("dsseEnvelope" in value):
        raise FormatError(f"{_WHERE}.content", "expected either a signature or an envelope")
    return SigstoreBundle(
        certificate=_bytes(_object(material["certificate"], "certificate"), "rawBytes")
        if "certificate" in material
        else None,
        entries=_read_entries(material.get("tlogEntries", [])),
        content=_read_message(_object(value["messageSignature"], "messageSignature"))
        if "messageSignature" in value
        else _read_envelope(_object(value["dsseEnvelope"], "dsseEnvelope")),
    )


def _read_message(value: Mapping[str, JsonValue]) -> MessageSignature:
    digest = _object(value.get("messageDigest"), "messageDigest")
    if digest.get("algorithm") != "SHA2_256":
        raise FormatError(f"{_WHERE}.messageDigest", "expected SHA2_256")
    sha256 = _bytes(digest, "digest")
    if len(sha256) != _SHA256_BYTES:
        raise FormatError(
            f"{_WHERE}.messageDigest", f"expected {_SHA256_BYTES} bytes, found {len(sha256)}"
        )
    return MessageSignature(sha256=sha256, signature=_bytes(value, "signature"))


def _read_envelope(value: Mapping[str, JsonValue]) -> DsseEnvelope:
    payload_type = value.get("payloadType")
    signatures = value.get("signatures")
    if not isinstance(payload_type, str) or not payload_type.isascii():
        raise FormatError(f"{_WHERE}.payloadType", "expected text")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise FormatError(f"{_WHERE}.signatures", "expected one signature")
    return DsseEnvelope(
        payload_type=payload_type,
        payload=_bytes(value, "payload"),
        signature=_bytes(_object(signatures[0], "signatures"), "sig"),
    )


def _read_entries(value: JsonValue) -> tuple[LogEntry, ...]:
    if not isinstance(value, list):
        raise FormatError(f"{_WHERE}.tlogEntries", "expected an array")
    if len(value) > _MAX_ENTRIES:
        raise LimitExceededError(f"{_WHERE}.tlogEntries", f"more than {_MAX_ENTRIES}")
    entries = [_object(item, "tlogEntries") for item in value]
    return tuple(_read_entry(entry) for entry in entries if entry.get("inclusionPromise"))


def _read_entry(value: Mapping[str, JsonValue]) -> LogEntry:
    promise = _object(value["inclusionPromise"], "inclusionPromise")
    return make_entry(
        body=_bytes(value, "canonicalizedBody"),
        integrated_time=_count(value, "integratedTime"),
        log_index=_count(value, "logIndex"),
        log_id=_bytes(_object(value.get("logId"), "logId"), "keyId").hex(),
        promise=_bytes(promise, "signedEntryTimestamp"),
    )


def _count(value: Mapping[str, JsonValue], name: str) -> int:
    """Read a 64-bit integer, which protobuf's JSON form writes as text; absent is 0."""
    text = value.get(name, "0")
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 16:
        raise FormatError(f"{_WHERE}.{name}", "expected digits")
    return int(text)


def _bytes(value: Mapping[str, JsonValue], name: str) -> bytes:
    return decode_base64(value.get(name), f"{_WHERE}.{name}")


def _object(value: JsonValue, name: str) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        raise FormatError(f"{_WHERE}.{name}", "expected an object")
    return value
