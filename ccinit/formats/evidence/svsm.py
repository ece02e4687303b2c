"""Evidence of a vTPM that an SVSM runs, and the two messages that bind its keys to each other.

The SVSM (AMD 58019, "Secure VM Service Module") runs at VMPL 0 of an SEV-SNP guest. Its attestation
of one service is a report of the processor over SHA-512(nonce || manifest), and the vTPM's manifest
is the TPMT_PUBLIC of its endorsement key. That key cannot sign; a credential (TPM 2.0 Library, part
1, section 24) shows that the attestation key lives in the same TPM, which takes two messages before
the evidence. No KBS protocol has names for any of this; the JSON is our own:

    request    {"ek", "ak"}: TPMT_PUBLIC each, in RCAR's `extra-params` under `svsm`
    nonce      {"nonce", "credential", "secret", "sealed"}: the text in the place of a nonce
    evidence   {"snp", "tpm", "manifest", "ak", "activated", "sealed"}

`snp` and `tpm` have the form of these platforms' evidence; binary parts are standard base64.
`sealed` is opaque to the guest, which returns it unchanged.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64,
    encode_base64,
    members,
    parse_json,
)
from ccinit.formats.evidence.snp import SnpEvidence, parse_snp_evidence
from ccinit.formats.evidence.tee import MAX_VERIFIERS_REQUEST_BYTES
from ccinit.formats.evidence.tpm import TpmEvidence, parse_tpm_evidence
from ccinit.formats.tcg.tpm2_keys import MAX_CREDENTIAL_BYTES, SECRET_BYTES
from ccinit.values import frozen

PARAMETER: Final = "svsm"
MAX_PUBLIC_BYTES: Final = 1024
MAX_SEALED_BYTES: Final = 512
NONCE_BYTES: Final = 32

_REQUEST_MEMBERS: Final = frozenset(("nonce", "credential", "secret", "sealed"))
_EVIDENCE_MEMBERS: Final = frozenset(("snp", "tpm", "manifest", "ak", "activated", "sealed"))


@frozen
class SvsmKeys:
    """Public parts of the vTPM's keys, TPMT_PUBLIC each."""

    ek: bytes
    ak: bytes


@frozen
class SvsmRequest:
    """What the verifier sends in place of a nonce.

    Attributes:
        nonce: fresh bytes.
        blob, secret: the credential: contents of TPM2B_ID_OBJECT and of the encrypted seed, without
            their lengths.
        sealed: opaque to the guest.
    """

    nonce: bytes
    blob: bytes
    secret: bytes
    sealed: bytes


@frozen
class SvsmEvidence:
    """A quote, and what ties its key to the processor.

    Attributes:
        snp: a report at VMPL 0 over nonce and manifest, with certificates if the SVSM has any.
        tpm: the quote.
        manifest: of the service: the endorsement key.
        ak: TPMT_PUBLIC of the key that quotes.
        activated: what the credential held.
        sealed: as in the request.
    """

    snp: SnpEvidence
    tpm: TpmEvidence
    manifest: bytes
    ak: bytes
    activated: bytes
    sealed: bytes

    def to_json_value(self) -> dict[str, JsonValue]:
        """Return the evidence as our verifier reads it."""
        return {
            "snp": self.snp.to_json_value(),
            "tpm": self.tpm.to_json_value(),
            "manifest": encode_base64(self.manifest),
            "ak": encode_base64(self.ak),
            "activated": encode_base64(self.activated),
            "sealed": encode_base64(self.sealed),
        }


def service_report_data(report_data: bytes, manifest: bytes) -> bytes:
    """Return a report's data for a nonce (zero-padded to 64 bytes) and a manifest, 64 bytes."""
    return hashlib.sha512(report_data.ljust(64, b"\0") + manifest).digest()


def encode_svsm_keys(keys: SvsmKeys) -> dict[str, JsonValue]:
    """Return the request's parameter."""
    return {"ek": encode_base64(keys.ek), "ak": encode_base64(keys.ak)}


def parse_svsm_keys(value: JsonValue) -> SvsmKeys:
    """Read the request's parameter.

    Raises:
        FormatError: `svsm_keys.…`.
    """
    keys = members(value, frozenset(("ek", "ak")), "svsm_keys")
    return SvsmKeys(
        ek=_part(keys, "ek", "svsm_keys", MAX_PUBLIC_BYTES),
        ak=_part(keys, "ak", "svsm_keys", MAX_PUBLIC_BYTES),
    )


def encode_svsm_request(request: SvsmRequest) -> bytes:
    """Write what `parse_svsm_request` reads."""
    value = {
        "nonce": encode_base64(request.nonce),
        "credential": encode_base64(request.blob),
        "secret": encode_base64(request.secret),
        "sealed": encode_base64(request.sealed),
    }
    return encode_json(value)


def parse_svsm_request(data: bytes) -> SvsmRequest:
    """Read a request, as it comes in the nonce of a challenge.

    Raises:
        FormatError: `svsm_request.…`.
    """
    value = members(
        parse_json(data, "svsm_request", MAX_VERIFIERS_REQUEST_BYTES),
        _REQUEST_MEMBERS,
        "svsm_request",
    )
    return SvsmRequest(
        nonce=_part(value, "nonce", "svsm_request", NONCE_BYTES, least=NONCE_BYTES),
        blob=_part(value, "credential", "svsm_request", MAX_CREDENTIAL_BYTES),
        secret=_part(value, "secret", "svsm_request", MAX_CREDENTIAL_BYTES),
        sealed=_part(value, "sealed", "svsm_request", MAX_SEALED_BYTES),
    )


def parse_svsm_evidence(value: JsonValue) -> SvsmEvidence:
    """Read `svsm` evidence.

    Raises:
        FormatError: `svsm_evidence.…`; `snp_evidence.…`, `snp_report.…`, `tpm_evidence.…`.
    """
    evidence = members(value, _EVIDENCE_MEMBERS, "svsm_evidence")
    return SvsmEvidence(
        snp=parse_snp_evidence(evidence["snp"]),
        tpm=parse_tpm_evidence(evidence["tpm"]),
        manifest=_part(evidence, "manifest", "svsm_evidence", MAX_PUBLIC_BYTES),
        ak=_part(evidence, "ak", "svsm_evidence", MAX_PUBLIC_BYTES),
        activated=_part(evidence, "activated", "svsm_evidence", SECRET_BYTES, least=SECRET_BYTES),
        sealed=_part(evidence, "sealed", "svsm_evidence", MAX_SEALED_BYTES),
    )


def _part(
    value: Mapping[str, JsonValue], name: str, where: str, most: int, *, least: int = 1
) -> bytes:
    return decode_base64(value[name], f"{where}.{name}", least, most)
