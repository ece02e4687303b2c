"""The Attester of SEV-SNP: a report of the secure processor, and the certificates it came with.

The report comes through `ccinit.kernel.tsm` or `ccinit.kernel.sev_guest`; here it is compared with
what was asked for, and passed on with the certificate chain. If the host supplies no certificates,
the verifier has to find them.
"""

from collections.abc import Callable

from ccinit.errors import PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.snp import SnpEvidence, parse_certificate_table
from ccinit.formats.evidence.snp_report import SnpReport, parse_snp_report
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData
from ccinit.kernel.tsm import TsmReport

ReportSource = Callable[[bytes], TsmReport]
"""Returns the report over its argument, and the certificate table, which may be empty."""


class SnpAttester:
    """Makes `snp` evidence."""

    def __init__(self, source: ReportSource) -> None:
        """Args: source: returns the report over 64 bytes of report data."""
        self._source = source

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a report over 64 bytes of `report_data`.

        Raises:
            PeerError: `attest.report`, the report is over something else; or the source's refusal.
            FormatError: `snp_report.…`, `snp_certificates.…`.
        """
        raw = self._source(report_data)
        evidence = SnpEvidence(
            report=_read(raw, report_data), certificates=parse_certificate_table(raw.auxblob)
        )
        return evidence.to_json_value()

    def read_host_data(self) -> bytes:
        """Return the 32 bytes that the host set at launch, as the secure processor reports them.

        Raises:
            PeerError, FormatError: as `collect_evidence`.
        """
        return _read(self._source(NO_REPORT_DATA), NO_REPORT_DATA).host_data


def _read(raw: TsmReport, report_data: bytes) -> SnpReport:
    report = parse_snp_report(raw.outblob)
    if report.report_data != report_data:
        raise PeerError("attest.report", "the report is not over what was asked for")
    return report
