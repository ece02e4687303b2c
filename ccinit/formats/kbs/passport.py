"""What public attestation services are asked, and what they answer, about a TDX or SNP guest.

* Azure Attestation, REST API 2025-06-01: `POST /attest/TdxVm` or `/attest/SevSnpVm`; the first 32
  bytes of the report data are SHA-256 of the runtime data. An SNP report comes with the
  certificates of the key that signed it, in PEM.
* Intel Trust Authority, appraisal API v1 (TDX) and v2 (TDX, and SNP as Intel previews it):
  `GET …/nonce`, then `POST …/attest`; the report data is SHA-512 of the nonce's value and time and
  the runtime data. An SNP report comes without certificates: the service has AMD's.

Both reply with `{"token": …}`, which `ccinit.formats.kbs.rcar` reads. The runtime data names the
guest's key in the form in which a KBS looks for it in the token's claims. HTTP is left to
`ccinit.attest.passport`.

Neither is asked about an Azure VM behind a paravisor. A token from `SevSnpVm` or `TdxVm` would
describe only the paravisor, one from `AzureGuest` only PCR 0 to 7: none shows PCR 4, 8, 9 and 11
together, so none says which image and which pod asks.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.json_text import canonical_json, encode_json
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64,
    encode_base64,
    encode_base64url,
    members,
    parse_json,
)
from ccinit.formats.evidence.snp import CertType, SnpEvidence
from ccinit.formats.evidence.tdx import TdxEvidence
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.kbs.jwk import PublicJwk
from ccinit.values import frozen

AZURE_TDX_PATH: Final = "/attest/TdxVm?api-version=2025-06-01"
AZURE_SNP_PATH: Final = "/attest/SevSnpVm?api-version=2025-06-01"

_CHAIN: Final = ((CertType.VCEK, CertType.VLEK), (CertType.ASK,), (CertType.ARK,))
_PEM_COLUMNS = 64
_MAX_NONCE_REPLY_BYTES = 16 * 1024
_MAX_NONCE_PART_BYTES = 1024
_REPORT_DATA_BYTES = 64


@frozen
class VerifierNonce:
    """Intel's challenge: a value, when it was made, and Intel's signature over both."""

    val: bytes
    iat: bytes
    signature: bytes

    def to_json_object(self) -> dict[str, str]:
        """Return the nonce as Intel sent it."""
        return {
            "val": encode_base64(self.val),
            "iat": encode_base64(self.iat),
            "signature": encode_base64(self.signature),
        }


def encode_runtime_data(key: PublicJwk) -> bytes:
    """Return the text that the evidence binds and the token repeats."""
    return canonical_json({"tee-pubkey": key.to_json_object()})


def azure_report_data(runtime_data: bytes) -> ReportData:
    """Return the report data that Azure Attestation expects, 64 bytes."""
    return ReportData(hashlib.sha256(runtime_data).digest().ljust(_REPORT_DATA_BYTES, b"\0"))


def encode_azure_tdx_request(evidence: TdxEvidence, runtime_data: bytes) -> bytes:
    """Encode the body of `POST /attest/TdxVm`."""
    quote = encode_base64url(evidence.quote)
    return encode_json({"quote": quote, "runtimeData": _azure_data(runtime_data)})


def encode_azure_snp_request(evidence: SnpEvidence, runtime_data: bytes) -> bytes:
    """Encode the body of `POST /attest/SevSnpVm`.

    Raises:
        FormatError: `passport.certificates`, the host gave none for the key that signed.
    """
    report = {
        "SnpReport": encode_base64url(evidence.report.to_bytes()),
        "VcekCertChain": encode_base64url(_pem_chain(evidence).encode("ascii")),
    }
    return encode_json(
        {"report": encode_base64url(encode_json(report)), "runtimeData": _azure_data(runtime_data)}
    )


def _azure_data(runtime_data: bytes) -> dict[str, JsonValue]:
    return {"data": encode_base64url(runtime_data), "dataType": "JSON"}


def _pem_chain(evidence: SnpEvidence) -> str:
    """Return the certificates from the signing key's to the root's; all three are needed."""
    chain = []
    for kinds in _CHAIN:
        found = [entry.data for entry in evidence.certificates if entry.cert_type in kinds]
        if len(found) != 1:
            raise FormatError("passport.certificates", f"{len(found)} of {' or '.join(kinds)}")
        text = encode_base64(found[0])
        lines = [text[at : at + _PEM_COLUMNS] for at in range(0, len(text), _PEM_COLUMNS)]
        chain += ["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"]
    return "\n".join((*chain, ""))


def intel_path(version: int, call: str) -> str:
    """Return the path of `nonce` or `attest` in the appraisal API of `version` 1 or 2."""
    return f"/appraisal/v{version}/{call}"


def parse_verifier_nonce(data: bytes) -> VerifierNonce:
    """Read the reply to `GET …/nonce`.

    Raises:
        FormatError: `passport.nonce…`.
    """
    value = members(
        parse_json(data, "passport.nonce", _MAX_NONCE_REPLY_BYTES),
        frozenset(("val", "iat", "signature")),
        "passport.nonce",
    )
    return VerifierNonce(
        **{
            name: decode_base64(part, "passport.nonce", 1, _MAX_NONCE_PART_BYTES)
            for name, part in value.items()
        }
    )


def intel_report_data(nonce: VerifierNonce, runtime_data: bytes) -> ReportData:
    """Return the report data that Intel Trust Authority expects, 64 bytes."""
    return ReportData(hashlib.sha512(nonce.val + nonce.iat + runtime_data).digest())


def encode_intel_v1_request(
    evidence: TdxEvidence, runtime_data: bytes, nonce: VerifierNonce, policy_ids: tuple[str, ...]
) -> bytes:
    """Encode the body of `POST …/attest` of version 1."""
    quote = {"quote": encode_base64(evidence.quote)}
    return _encode_intel(_intel_evidence(quote, runtime_data, nonce), policy_ids)


def encode_intel_v2_request(
    evidence: TdxEvidence | SnpEvidence,
    runtime_data: bytes,
    nonce: VerifierNonce,
    policy_ids: tuple[str, ...],
) -> bytes:
    """Encode the body of `POST …/attest` of version 2: each kind of evidence under its name."""
    if isinstance(evidence, SnpEvidence):
        report = {"report": encode_base64(evidence.report.to_bytes())}
        body = {"sevsnp": _intel_evidence(report, runtime_data, nonce)}
    else:
        quote = {"quote": encode_base64(evidence.quote)}
        body = {"tdx": _intel_evidence(quote, runtime_data, nonce)}
    return _encode_intel(body, policy_ids)


def _intel_evidence(
    evidence: Mapping[str, JsonValue], runtime_data: bytes, nonce: VerifierNonce
) -> dict[str, JsonValue]:
    return {
        **evidence,
        "verifier_nonce": nonce.to_json_object(),
        "runtime_data": encode_base64(runtime_data),
    }


def _encode_intel(evidence: Mapping[str, JsonValue], policy_ids: tuple[str, ...]) -> bytes:
    body = dict(evidence)
    if policy_ids:
        body["policy_ids"] = list(policy_ids)
    return encode_json(body)
