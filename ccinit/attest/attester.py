"""What an Attester is: something that makes Evidence over report data.

One implementation for each platform; they do not know each other, and there is no fallback from one
to another. Which one a guest has is found by `ccinit.attest.detect`.
"""

from typing import Protocol

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.values import frozen


@frozen
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
        """Return evidence that carries `report_data` unchanged (TPM: 1 to 64 bytes; SNP: 64)."""
