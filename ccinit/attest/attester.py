"""What an Attester is: something that makes Evidence over report data.

One implementation for each platform; they do not know each other, and there is no fallback from one
to another. Which one a guest has is found by `ccinit.attest.detect`.
"""

from typing import Protocol

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData


class Attester(Protocol):
    """A platform that can vouch for itself."""

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return evidence that carries `report_data` unchanged (TPM: 1 to 64 bytes; SNP: 64).

        It is the JSON that Trustee's verifier of the platform reads.
        """
