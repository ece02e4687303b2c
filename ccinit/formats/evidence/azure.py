"""The evidence of Azure's confidential VMs: a quote, the paravisor's report, and its endorsement.

The JSON is version 2 of what Trustee's `az-snp-vtpm` and `az-tdx-vtpm` verifiers read: `{"version":
2, "tpm_quote": {"signature", "message", "pcrs"}, "hcl_report", "vcek" | "td_quote"}`, with the
parts of the quote in lower-case hex (the signature bare, without its TPMT_SIGNATURE) and the rest
in base64url. Judging them is left to the verifier.
"""

from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.hexadecimal import decode_hex
from ccinit.formats.encoding.strict_json import (
    JsonValue,
    decode_base64url,
    encode_base64url,
    members,
)
from ccinit.formats.evidence.hcl_report import MAX_REPORT_BYTES
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.tcg.tpm2 import DIGEST_BYTES, PCR_COUNT
from ccinit.values import frozen

VERSION: Final = 2
MAX_QUOTE_PART_BYTES: Final = 4096
MAX_ENDORSEMENT_BYTES: Final = 64 * 1024
ENDORSEMENT: Final = {Tee.AZ_SNP_VTPM: "vcek", Tee.AZ_TDX_VTPM: "td_quote"}
"""The member that ties the hardware report to its vendor: a VCEK certificate in DER, or the quote
that Azure's quoting enclave made of the TD report."""


@frozen
class AzureEvidence:
    """One quote of a paravisor's vTPM.

    Attributes:
        message: encoded TPMS_ATTEST.
        signature: RSASSA with SHA-256 over it, bare.
        pcrs: the 24 values of the SHA-256 bank, 32 bytes each.
        hcl_report: as `ccinit.formats.evidence.hcl_report` reads it.
        endorsement: see `ENDORSEMENT`.
    """

    tee: Tee
    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]
    hcl_report: bytes
    endorsement: bytes

    def to_json_value(self) -> dict[str, JsonValue]:
        """Return the evidence as Trustee's verifier reads it."""
        return {
            "version": VERSION,
            "tpm_quote": {
                "signature": self.signature.hex(),
                "message": self.message.hex(),
                "pcrs": [value.hex() for value in self.pcrs],
            },
            "hcl_report": _encode(self.hcl_report),
            ENDORSEMENT[self.tee]: _encode(self.endorsement),
        }


def parse_azure_evidence(tee: Tee, value: JsonValue) -> AzureEvidence:
    """Read the evidence of `tee`, an Azure platform; missing and unknown members are refused.

    Raises:
        FormatError: `azure_evidence.…`.
    """
    names = frozenset(("version", "tpm_quote", "hcl_report", ENDORSEMENT[tee]))
    evidence = members(value, names, "azure_evidence")
    if evidence["version"] != VERSION:
        raise FormatError("azure_evidence.version", f"only version {VERSION} is read")
    quote = members(
        evidence["tpm_quote"], frozenset(("signature", "message", "pcrs")), "azure_evidence"
    )
    pcrs = quote["pcrs"]
    if not isinstance(pcrs, list) or len(pcrs) != PCR_COUNT:
        raise FormatError("azure_evidence.pcrs", f"expected {PCR_COUNT} values")
    return AzureEvidence(
        tee=tee,
        message=_part(quote["message"], "azure_evidence.message"),
        signature=_part(quote["signature"], "azure_evidence.signature"),
        pcrs=tuple(decode_hex(text, DIGEST_BYTES, "azure_evidence.pcrs") for text in pcrs),
        hcl_report=_decode(evidence["hcl_report"], "azure_evidence.hcl_report", MAX_REPORT_BYTES),
        endorsement=_decode(
            evidence[ENDORSEMENT[tee]], "azure_evidence.endorsement", MAX_ENDORSEMENT_BYTES
        ),
    )


def _part(value: JsonValue, reason: str) -> bytes:
    if not isinstance(value, str) or not 0 < len(value) <= 2 * MAX_QUOTE_PART_BYTES:
        raise FormatError(reason, f"expected hex of 1 to {MAX_QUOTE_PART_BYTES} bytes")
    return decode_hex(value, len(value) // 2, reason)


def _encode(data: bytes) -> str:
    bare = encode_base64url(data)
    return bare + _padding(bare)


def _decode(value: JsonValue, reason: str, max_bytes: int) -> bytes:
    """Read canonical base64url, with padding (as Azure's tools write it) or without."""
    if not isinstance(value, str):
        raise FormatError(reason, "expected base64url text")
    bare = value.rstrip("=")
    if value not in (bare, bare + _padding(bare)):
        raise FormatError(reason, "base64url with another padding than its own")
    data = decode_base64url(bare, reason)
    if not 0 < len(data) <= max_bytes:
        raise FormatError(reason, f"expected 1 to {max_bytes} bytes, found {len(data)}")
    return data


def _padding(bare: str) -> str:
    return "=" * (-len(bare) % 4)
