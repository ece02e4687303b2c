"""The Attester (RFC 9334): it makes Evidence over report data.

Each platform has one implementation; they do not know each other, and there is no fallback from one
to another. `ccinit.attest.detect` finds out which one a guest has.
"""

from typing import Protocol

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData


class Attester(Protocol):
    """A platform that can vouch for itself."""

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return evidence that carries `report_data` unchanged (TPM: 1 to 64 bytes; SNP: 64).

        It is the JSON that Trustee's verifier for the platform reads.
        """
