"""Messages of RCAR, the handshake of a Key Broker Service: Request, Challenge, Attestation, Reply.

Protocol version 0.4.0 of Confidential Containers' KBS attestation protocol: each message as a
frozen value with its parser and encoder for both sides, and the digests that bind nonce and key to
the evidence. Unknown members are refused, duplicates too, and every text has a cap.
`ccinit.attest.exchange` knows the order of the messages, `ccinit.net` does HTTP, and the verifier
reads what is inside the evidence.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, NewType

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.json_text import canonical_json, encode_json
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64,
    members,
    parse_json,
    text_member,
)
from ccinit.formats.evidence.tee import (
    MAX_VERIFIERS_REQUEST_BYTES,
    Tee,
    evidence_needs_request,
    report_hash,
)
from ccinit.formats.kbs.jwk import PublicJwk, parse_jwk
from ccinit.values import field, frozen

Nonce = NewType("Nonce", str)

PROTOCOL_VERSION: Final = "0.4.0"
ERROR_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"

_UNSELECTED_HASH = "sha384"  # what a challenge means that selects none

MAX_SMALL_BYTES = 64 * 1024  # requests, challenges and errors: a few hundred bytes in practice
MAX_TOKEN_BYTES = 256 * 1024  # Trustee's own head limit is 128 KiB
MAX_ATTESTATION_BYTES = 2 * 1024 * 1024  # Trustee's default `payload_request_size`
MAX_ATTESTATION_VALUES = 128 * 1024  # certificates come as arrays of their bytes
MAX_INIT_DATA_BYTES = 1024 * 1024
MAX_ADDITIONAL_BYTES = 256 * 1024
MIN_NONCE_BYTES, MAX_NONCE_BYTES = 16, 128


@frozen
class Request:
    """`POST auth`: the guest's protocol version and platform."""

    version: str
    tee: str
    extra_params: JsonValue


@frozen
class Challenge:
    """The KBS's answer to a Request; the nonce is echoed as the text it came as."""

    nonce: Nonce
    extra_params: JsonValue


@frozen
class Attestation:
    """`POST attest`.

    Attributes:
        nonce: the challenge's text.
        tee_pubkey: the key that resources will be encrypted to.
        init_data: TOML text of the initdata document, or None if the platform has none.
        primary_evidence: JSON value in the form of the platform's verifier.
        additional_evidence: JSON text of device evidence, hashed as it is; "" for none.
    """

    nonce: Nonce
    tee_pubkey: PublicJwk
    init_data: str | None
    primary_evidence: JsonValue
    additional_evidence: str


@frozen
class TokenReply:
    """The KBS's answer to an Attestation: an encoded result, opaque here, and a credential."""

    token: str = field(repr=False)


@frozen
class ErrorInformation:
    """The body of every refusal.

    Attributes:
        type: a URL whose last segment is the variant.
        detail: text for people; untrusted.
    """

    type: str
    detail: str

    @property
    def variant(self) -> str:
        """The last segment of `type`, or "" if it is not a KBS error."""
        return self.type[len(ERROR_PREFIX) :] if self.type.startswith(ERROR_PREFIX) else ""


def parse_nonce(text: str) -> Nonce:
    """Check a nonce: canonical standard base64 of 16 to 128 bytes.

    Raises:
        FormatError: `rcar.nonce`.
    """
    if len(text) > 4 * (MAX_NONCE_BYTES + 2) // 3:
        raise LimitExceededError("rcar.nonce", f"longer than {MAX_NONCE_BYTES} bytes")
    decode_base64(text, "rcar.nonce", MIN_NONCE_BYTES, MAX_NONCE_BYTES)
    return Nonce(text)


def parse_request_text(text: str) -> Nonce:
    """Check that a verifier's request in place of a nonce is printable ASCII; it is not read here.

    Only platforms whose evidence answers such a request have it (`evidence_needs_request`).

    Raises:
        FormatError: `rcar.nonce`.
    """
    if not 0 < len(text) <= MAX_VERIFIERS_REQUEST_BYTES:
        raise LimitExceededError("rcar.nonce", f"a request of {len(text)} characters")
    if any(not " " <= character <= "~" for character in text):
        raise FormatError("rcar.nonce", "a request is printable ASCII")
    return Nonce(text)


def parse_request(data: bytes) -> Request:
    """Read `POST auth`; any version is accepted here."""
    value = members(
        parse_json(data, "rcar", MAX_SMALL_BYTES),
        frozenset(("version", "tee", "extra-params")),
        "rcar",
    )
    return Request(
        version=text_member(value, "version", "rcar", max_bytes=32),
        tee=text_member(value, "tee", "rcar", max_bytes=32),
        extra_params=value["extra-params"],
    )


def encode_request(request: Request) -> bytes:
    """Encode `POST auth`."""
    return encode_json(
        {"version": request.version, "tee": request.tee, "extra-params": request.extra_params}
    )


def parse_challenge(data: bytes, tee: Tee) -> Challenge:
    """Read a challenge for `tee`; one that selects another hash than the platform's is refused.

    Raises:
        FormatError: `rcar.hash`, or another `rcar.…`.
    """
    expected = report_hash(tee)
    value = members(
        parse_json(data, "rcar", MAX_SMALL_BYTES), frozenset(("nonce", "extra-params")), "rcar"
    )
    extra = value["extra-params"]
    if isinstance(extra, Mapping) and "selected-hash-algorithm" in extra:
        selected = extra["selected-hash-algorithm"]
        if not isinstance(selected, str) or selected.lower() != expected:
            raise FormatError("rcar.hash", f"the challenge selects a hash other than {expected}")
    elif expected != _UNSELECTED_HASH:
        raise FormatError("rcar.hash", f"the challenge does not select {expected}")
    nonce = _parse_nonce_for(tee, text_member(value, "nonce", "rcar", max_bytes=MAX_SMALL_BYTES))
    return Challenge(nonce=nonce, extra_params=extra)


def encode_challenge(challenge: Challenge) -> bytes:
    """Encode the reply to `POST auth`."""
    return encode_json({"nonce": challenge.nonce, "extra-params": challenge.extra_params})


def parse_attestation(data: bytes, tee: Tee) -> Attestation:
    """Read `POST attest`; the platform determines the kind of nonce."""
    value = members(
        parse_json(data, "rcar", MAX_ATTESTATION_BYTES, MAX_ATTESTATION_VALUES),
        frozenset(("init-data", "runtime-data", "tee-evidence")),
        "rcar",
    )
    runtime = members(value["runtime-data"], frozenset(("nonce", "tee-pubkey")), "rcar.runtime")
    evidence = members(
        value["tee-evidence"],
        frozenset(("primary_evidence", "additional_evidence")),
        "rcar.evidence",
    )
    return Attestation(
        nonce=_parse_nonce_for(
            tee, text_member(runtime, "nonce", "rcar", max_bytes=MAX_VERIFIERS_REQUEST_BYTES)
        ),
        tee_pubkey=parse_jwk(runtime["tee-pubkey"]),
        init_data=_parse_init_data(value["init-data"]),
        primary_evidence=evidence["primary_evidence"],
        additional_evidence=text_member(
            evidence, "additional_evidence", "rcar", max_bytes=MAX_ADDITIONAL_BYTES
        ),
    )


def _parse_nonce_for(tee: Tee, text: str) -> Nonce:
    return parse_request_text(text) if evidence_needs_request(tee) else parse_nonce(text)


def _parse_init_data(value: JsonValue) -> str | None:
    if value is None:
        return None
    table = members(value, frozenset(("format", "body")), "rcar.init_data")
    if text_member(table, "format", "rcar.init_data") != "toml":
        raise FormatError("rcar.init_data.format", "only toml is known")
    return text_member(table, "body", "rcar.init_data", max_bytes=MAX_INIT_DATA_BYTES)


def encode_attestation(attestation: Attestation) -> bytes:
    """Encode `POST attest`; the members of `tee-evidence` are spelled with underscores."""
    body = attestation.init_data
    value: JsonValue = {
        "init-data": None if body is None else {"format": "toml", "body": body},
        "runtime-data": {
            "nonce": attestation.nonce,
            "tee-pubkey": attestation.tee_pubkey.to_json_object(),
        },
        "tee-evidence": {
            "primary_evidence": attestation.primary_evidence,
            "additional_evidence": attestation.additional_evidence,
        },
    }
    return encode_json(value)


def parse_token_reply(data: bytes) -> TokenReply:
    """Read the reply to `POST attest`; the token is printable ASCII and not interpreted.

    Raises:
        FormatError: `rcar.token`, or another `rcar.…`.
    """
    value = members(parse_json(data, "rcar", MAX_TOKEN_BYTES), frozenset(("token",)), "rcar")
    token = text_member(value, "token", "rcar", max_bytes=MAX_TOKEN_BYTES)
    if not token or any(not "!" <= character <= "~" for character in token):
        raise FormatError("rcar.token", "expected printable ASCII")
    return TokenReply(token=token)


def encode_token_reply(reply: TokenReply) -> bytes:
    """Encode the reply to `POST attest`."""
    return encode_json({"token": reply.token})


def parse_error_information(data: bytes) -> ErrorInformation:
    """Read the body of a refusal."""
    value = members(
        parse_json(data, "rcar.error", MAX_SMALL_BYTES), frozenset(("type", "detail")), "rcar.error"
    )
    return ErrorInformation(
        type=text_member(value, "type", "rcar.error", max_bytes=256),
        detail=text_member(value, "detail", "rcar.error", max_bytes=8192),
    )


def encode_error_information(error: ErrorInformation) -> bytes:
    """Encode the body of a refusal."""
    return encode_json({"type": error.type, "detail": error.detail})


def device_digest(nonce: Nonce, tee_pubkey: PublicJwk, tee: Tee) -> bytes:
    """Return the digest that the evidence of every additional device has to carry."""
    text = canonical_json({"nonce": nonce, "tee-pubkey": tee_pubkey.to_json_object()})
    return hashlib.new(report_hash(tee), text).digest()


def encode_additional_evidence(evidence: Mapping[str, JsonValue]) -> str:
    """Encode devices' evidence by the names of their verifiers; without devices, an empty text.

    Raises:
        LimitExceededError: `rcar.additional_evidence`.
    """
    if not evidence:
        return ""
    text = encode_json(evidence).decode()
    if len(text) > MAX_ADDITIONAL_BYTES:
        detail = f"expected at most {MAX_ADDITIONAL_BYTES} bytes, found {len(text)}"
        raise LimitExceededError("rcar.additional_evidence", detail)
    return text


def report_digest(nonce: Nonce, tee_pubkey: PublicJwk, additional_evidence: str, tee: Tee) -> bytes:
    """Return the digest that the primary evidence has to carry, by the platform's hash."""
    text = canonical_json(
        {
            "additional-evidence": additional_evidence,
            "nonce": nonce,
            "tee-pubkey": tee_pubkey.to_json_object(),
        }
    )
    return hashlib.new(report_hash(tee), text).digest()
