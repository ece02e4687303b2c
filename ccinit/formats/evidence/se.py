"""Attestation of IBM Secure Execution: request, evidence, and what the ultravisor's HMAC covers.

A verifier's request is encrypted to the machine's ultravisor and opaque to the guest. The guest
adds up to 256 bytes of user data. The ultravisor answers with an HMAC-SHA-512 under a key that only
it and the request's maker have, over the digests and the tag in the header of the encrypted image
that it unpacked, the guest's id, the user data, the request's nonce and the additional data. The
JSON is that of Confidential Containers' `se` attester and verifier (`SeAttestationRequest`,
`SeAttestationResponse`), binary parts in standard base64. What is measured, and in which order
(integers big-endian), is in s390-tools, `pvattest` ("AttestationItems").

The user data are the report data, as Trustee's verifier expects, and then the digest of the
initdata document, which that verifier neither compares nor shows.
"""

import struct
from collections.abc import Mapping
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64,
    encode_base64,
    members,
    parse_json,
)
from ccinit.formats.evidence.tee import MAX_VERIFIERS_REQUEST_BYTES
from ccinit.values import frozen

HEADER_TAGS_BYTES: Final = 208  # page, address and tweak list digests (64 each), tag (16)
MEASUREMENT_BYTES: Final = 64
CONFIG_UID_BYTES: Final = 16
REPORT_DATA_BYTES: Final = 64
INITDATA_BYTES: Final = 48
MAX_USER_DATA_BYTES: Final = 256  # UVIO_ATT_USER_DATA_LEN
MAX_ADDITIONAL_BYTES: Final = 0x8000  # UVIO_ATT_ADDITIONAL_MAX_LEN
MAX_BLOB_BYTES: Final = 32 * 1024
MAX_SEALED_BYTES: Final = 1024  # what only the verifier can open: Trustee's is an RSA-4096 block

_REQUEST_MEMBERS: Final = frozenset(
    (
        *("request_blob", "measurement_size", "additional_size"),
        *("encr_measurement_key", "encr_request_nonce", "image_hdr_tags"),
    )
)
_EVIDENCE_MEMBERS: Final = frozenset(
    (
        *("measurement", "additional_data", "user_data", "cuid"),
        *("encr_measurement_key", "encr_request_nonce", "image_hdr_tags"),
    )
)
_LENGTHS: Final = struct.Struct(">HxxI")  # of user data and additional data


@frozen
class SeRequest:
    """A verifier's request.

    Attributes:
        blob: the attestation request control block, for the ultravisor.
        additional_bytes: length of the additional data that the ultravisor is asked for.
        sealed_key, sealed_nonce: the request's secrets, encrypted; the verifier gets them back.
        header_tags: of the image that the verifier expects, 208 bytes.
    """

    blob: bytes
    additional_bytes: int
    sealed_key: bytes
    sealed_nonce: bytes
    header_tags: bytes


@frozen
class SeEvidence:
    """The ultravisor's answer, with what goes back to the verifier unchanged.

    Attributes:
        measurement: the HMAC, 64 bytes.
        additional: the ultravisor's additional data.
        user_data: the guest's, at most 256 bytes.
        config_uid: of this guest, 16 bytes.
        sealed_key, sealed_nonce, header_tags: as in the request.
    """

    measurement: bytes
    additional: bytes
    user_data: bytes
    config_uid: bytes
    sealed_key: bytes
    sealed_nonce: bytes
    header_tags: bytes

    def to_json_value(self) -> dict[str, JsonValue]:
        """Return the evidence as Trustee's `se` verifier reads it."""
        return {
            "measurement": encode_base64(self.measurement),
            "additional_data": encode_base64(self.additional),
            "user_data": encode_base64(self.user_data),
            "cuid": encode_base64(self.config_uid),
            "encr_measurement_key": encode_base64(self.sealed_key),
            "encr_request_nonce": encode_base64(self.sealed_nonce),
            "image_hdr_tags": encode_base64(self.header_tags),
        }


def parse_se_request(data: bytes) -> SeRequest:
    """Read a request, as it comes in the nonce of a challenge.

    Raises:
        FormatError: `se_request.…`.
    """
    value = members(
        parse_json(data, "se_request", MAX_VERIFIERS_REQUEST_BYTES), _REQUEST_MEMBERS, "se_request"
    )
    if value["measurement_size"] != MEASUREMENT_BYTES:
        raise FormatError("se_request.measurement_size", "an HMAC-SHA-512 has 64 bytes")
    additional = value["additional_size"]
    if type(additional) is not int or not 0 <= additional <= MAX_ADDITIONAL_BYTES:
        raise FormatError("se_request.additional_size", f"0 to {MAX_ADDITIONAL_BYTES} bytes")
    return SeRequest(
        blob=decode_base64(value["request_blob"], "se_request.request_blob", 1, MAX_BLOB_BYTES),
        additional_bytes=additional,
        **_returned(value, "se_request"),
    )


def encode_se_request(request: SeRequest) -> bytes:
    """Write what `parse_se_request` reads."""
    value = {
        "request_blob": encode_base64(request.blob),
        "measurement_size": MEASUREMENT_BYTES,
        "additional_size": request.additional_bytes,
        "encr_measurement_key": encode_base64(request.sealed_key),
        "encr_request_nonce": encode_base64(request.sealed_nonce),
        "image_hdr_tags": encode_base64(request.header_tags),
    }
    return encode_json(value)


def parse_se_evidence(value: JsonValue) -> SeEvidence:
    """Read `se` evidence.

    Raises:
        FormatError: `se_evidence.…`.
    """
    evidence = members(value, _EVIDENCE_MEMBERS, "se_evidence")
    return SeEvidence(
        measurement=decode_base64(
            evidence["measurement"], "se_evidence.measurement", MEASUREMENT_BYTES, MEASUREMENT_BYTES
        ),
        additional=decode_base64(
            evidence["additional_data"], "se_evidence.additional_data", 0, MAX_ADDITIONAL_BYTES
        ),
        user_data=decode_base64(
            evidence["user_data"], "se_evidence.user_data", 0, MAX_USER_DATA_BYTES
        ),
        config_uid=decode_base64(
            evidence["cuid"], "se_evidence.cuid", CONFIG_UID_BYTES, CONFIG_UID_BYTES
        ),
        **_returned(evidence, "se_evidence"),
    )


def encode_user_data(report_data: bytes, initdata_digest: bytes) -> bytes:
    """Return the user data: 64 bytes of report data, 48 of the initdata document's digest.

    Raises:
        FormatError: `se_user_data.length`.
    """
    if (len(report_data), len(initdata_digest)) != (REPORT_DATA_BYTES, INITDATA_BYTES):
        raise FormatError(
            "se_user_data.length",
            f"expected 64 and 48 bytes, found {len(report_data)} and {len(initdata_digest)}",
        )
    return report_data + initdata_digest


def measured_items(evidence: SeEvidence, header_tags: bytes, nonce: bytes) -> bytes:
    """Return the HMAC's input, for an image with `header_tags` and a request with `nonce`."""
    lengths = _LENGTHS.pack(len(evidence.user_data), len(evidence.additional))
    return b"".join(
        (
            *(header_tags, evidence.config_uid, lengths),
            *(evidence.user_data, nonce, evidence.additional),
        )
    )


def _returned(value: Mapping[str, JsonValue], where: str) -> dict[str, bytes]:
    """Read what the guest returns to the verifier unchanged."""
    sealed = {
        name: decode_base64(value[member], f"{where}.{member}", 1, MAX_SEALED_BYTES)
        for name, member in (
            ("sealed_key", "encr_measurement_key"),
            ("sealed_nonce", "encr_request_nonce"),
        )
    }
    tags = f"{where}.image_hdr_tags"
    size = HEADER_TAGS_BYTES
    return {**sealed, "header_tags": decode_base64(value["image_hdr_tags"], tags, size, size)}
