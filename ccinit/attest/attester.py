"""What an Attester is: something that makes Evidence over report data.

One implementation for each platform; they do not know each other, and there is no fallback from one
to another. Which one a guest has is found by `ccinit.attest.detect`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Protocol

from ccinit.formats.rcar import tpm_report_data
from ccinit.formats.strict_json import JsonValue

ReportData = NewType("ReportData", bytes)


class Tee(StrEnum):
    """Platforms by their RCAR name, those that have an Attester here."""

    TPM = "tpm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One piece of evidence; `value` is the JSON that Trustee's verifier of `tee` reads."""

    tee: Tee
    value: JsonValue


class Attester(Protocol):
    """A platform that can vouch for itself."""

    @property
    def tee(self) -> Tee:
        """Which verifier understands the evidence."""

    def collect_evidence(self, report_data: ReportData) -> Evidence:
        """Return evidence that carries `report_data` unchanged (TPM: 1 to 64 bytes)."""


def report_data_for(tee: Tee, digest: bytes) -> ReportData:
    """Return what a handshake's 48-byte digest becomes in the report data of a platform."""
    match tee:
        case Tee.TPM:
            return ReportData(tpm_report_data(digest))
