"""A transparency log's promise that it has recorded a signature (Rekor v1).

The signed entry timestamp (SET) is over the canonical JSON (RFC 8785) of body, time, log and index.
It comes as an annotation of a classic signature, or in a bundle; both become a `LogEntry`. The body
is read only after the SET was verified, and only for what was recorded: kinds `hashedrekord` and
`dsse`, both version 0.0.1.
"""

from collections.abc import Mapping

from ccinit.errors import FormatError
from ccinit.formats.encoding.hexadecimal import HEX_DIGITS
from ccinit.formats.encoding.strict_json import (
    MAX_INTEGER,
    JsonValue,
    decode_base64,
    encode_base64,
    members,
    parse_json,
    text_member,
)
from ccinit.values import frozen

MAX_ENTRY_BYTES = 64 * 1024
_WHERE = "signature.rekor"
_ENVELOPE = frozenset({"SignedEntryTimestamp", "Payload"})
_PAYLOAD = frozenset({"body", "integratedTime", "logIndex", "logID"})


@frozen
class LogEntry:
    """An entry and the log's signature for it; nothing of it is verified.

    Attributes:
        body: the recorded document, JSON.
        integrated_time: when it was recorded, in seconds since 1970.
        log_id: of the log's key, hex.
        promise: the SET, a signature over `signed_bytes`.
    """

    body: bytes
    integrated_time: int
    log_index: int
    log_id: str
    promise: bytes

    def signed_bytes(self) -> bytes:
        """Return what the log has signed; its texts are base64 and hex, which need no escapes."""
        return (
            f'{{"body":"{encode_base64(self.body)}","integratedTime":{self.integrated_time},'
            f'"logID":"{self.log_id}","logIndex":{self.log_index}}}'
        ).encode("ascii")


@frozen
class Recorded:
    """What the body of a verified entry says.

    Attributes:
        payload_sha256: of the signed payload, hex.
        signature: the recorded signature.
        verifier_pem: the recorded key or certificate, PEM.
    """

    payload_sha256: str
    signature: bytes
    verifier_pem: bytes


def parse_set(data: bytes) -> LogEntry:
    """Parse the annotation `dev.sigstore.cosign/bundle`.

    Raises:
        FormatError: `signature.rekor.…`.
    """
    value = members(parse_json(data, _WHERE, MAX_ENTRY_BYTES), _ENVELOPE, _WHERE)
    payload = members(value["Payload"], _PAYLOAD, _WHERE)
    return make_entry(
        body=decode_base64(payload["body"], f"{_WHERE}.body"),
        integrated_time=payload["integratedTime"],
        log_index=payload["logIndex"],
        log_id=text_member(payload, "logID", _WHERE),
        promise=decode_base64(value["SignedEntryTimestamp"], f"{_WHERE}.promise"),
    )


def make_entry(
    *, body: bytes, integrated_time: JsonValue, log_index: JsonValue, log_id: str, promise: bytes
) -> LogEntry:
    """Return an entry whose numbers and log id are well-formed.

    Raises:
        FormatError: `signature.rekor.…`.
    """
    if len(log_id) != 64 or not HEX_DIGITS.issuperset(log_id):
        raise FormatError(f"{_WHERE}.log_id", "expected 64 hex digits")
    return LogEntry(
        body=body,
        integrated_time=_count(integrated_time, "time"),
        log_index=_count(log_index, "index"),
        log_id=log_id,
        promise=promise,
    )


def _count(value: JsonValue, name: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise FormatError(f"{_WHERE}.{name}", "expected a count")
    return value


def parse_body(body: bytes) -> Recorded:
    """Parse the body of a verified entry.

    Raises:
        FormatError: `signature.rekor.…`.
    """
    value = parse_json(body, _WHERE, MAX_ENTRY_BYTES)
    kind, version, spec = (_get(value, name) for name in ("kind", "apiVersion", "spec"))
    if version != "0.0.1":
        raise FormatError(f"{_WHERE}.kind", "an entry of an unknown version")
    if kind == "hashedrekord":
        signature = _get(spec, "signature")
        return _recorded(
            hashed=_get(_get(spec, "data"), "hash"),
            signature=_get(signature, "content"),
            verifier=_get(_get(signature, "publicKey"), "content"),
        )
    if kind == "dsse":
        signatures = _get(spec, "signatures")
        if not isinstance(signatures, list) or len(signatures) != 1:
            raise FormatError(f"{_WHERE}.signatures", "expected one recorded signature")
        return _recorded(
            hashed=_get(spec, "payloadHash"),
            signature=_get(signatures[0], "signature"),
            verifier=_get(signatures[0], "verifier"),
        )
    raise FormatError(f"{_WHERE}.kind", "an entry of an unknown kind")


def _recorded(*, hashed: JsonValue, signature: JsonValue, verifier: JsonValue) -> Recorded:
    digest = _get(hashed, "value")
    if _get(hashed, "algorithm") != "sha256" or not isinstance(digest, str):
        raise FormatError(f"{_WHERE}.hash", "expected a sha256 hash")
    return Recorded(
        payload_sha256=digest,
        signature=decode_base64(signature, f"{_WHERE}.signature"),
        verifier_pem=decode_base64(verifier, f"{_WHERE}.verifier"),
    )


def _get(value: JsonValue, name: str) -> JsonValue:
    if not isinstance(value, Mapping) or name not in value:
        raise FormatError(f"{_WHERE}.members", f"{name} is missing")
    return value[name]
