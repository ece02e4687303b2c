"""The Attester of TDX: a quote, with the log of what was measured into the registers it covers.

The quote comes through `ccinit.kernel.tsm`: the guest's report goes to the host, whose quoting
enclave signs it. So the quote is untrusted here: it is only compared with what was asked for, and
the verifier judges it. What the *guest* wants to know about itself must not come from a quote but
from the TDX module's own report (`ccinit.kernel.tdx_guest`).
"""

from collections.abc import Callable

from ccinit.errors import PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tdx import TdxEvidence
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.tcg.event_log import END_OF_RECORDS, Algorithm, encode_header, parse_event_log

QuoteSource = Callable[[bytes], bytes]
"""Returns the quote over 64 bytes of report data."""


class TdxAttester:
    """Makes `tdx` evidence."""

    def __init__(self, source: QuoteSource, event_log: bytes | None) -> None:
        """Args: source: returns the quote; event_log: what `join_event_logs` returned."""
        self._source = source
        self._event_log = event_log

    def collect_evidence(self, report_data: ReportData) -> JsonValue:
        """Return a quote over 64 bytes of `report_data`.

        Raises:
            PeerError: `attest.report`, the quote is over something else; or the source's refusal.
            FormatError: `tdx_quote.…`, `tdx_evidence.…`.
        """
        quote = self._source(report_data)
        if parse_tdx_quote(quote).body.report_data != report_data:
            raise PeerError("attest.report", "the quote is not over what was asked for")
        evidence = TdxEvidence(quote=quote, event_log=self._event_log)
        return evidence.to_json_value()


def join_event_logs(firmware: bytes | None, own: bytes) -> bytes | None:
    """Return one log of firmware's events and the guest's own; None if there are neither.

    Args:
        firmware: the memory that the ACPI table CCEL points to, which is larger than the log.
        own: records of the guest's events, without a header.

    Raises:
        FormatError: `event_log.…`: the firmware's log is malformed.
    """
    if firmware is not None:
        records = parse_event_log(firmware, Algorithm.SHA384, end_marker=True).records
    elif own:
        records = encode_header(Algorithm.SHA384)
    else:
        return None
    return records + own + END_OF_RECORDS
