"""Evidence of TDX from a quote that a source gives, and the log that goes with it."""

import pytest

from ccinit.attest.tdx import TdxAttester, join_event_logs
from ccinit.errors import FormatError, PeerError
from ccinit.formats.evidence.tdx import parse_tdx_evidence
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import END_OF_RECORDS, Algorithm, encode_event, parse_event_log
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.fakes.platforms.tdx_quote import FakeTdx

REPORT_DATA = ReportData(bytes(range(64)))
OWN = encode_event(
    AaelEvent(domain="ccinit", operation="StartContainer", content="{}").to_logged_event(
        4, Algorithm.SHA384
    ),
    Algorithm.SHA384,
)


def test_evidence_is_the_quote_over_the_report_data_and_the_log() -> None:
    domain = FakeTdx()
    evidence = TdxAttester(domain.quote, b"log").collect_evidence(REPORT_DATA)
    parsed = parse_tdx_evidence(evidence)
    assert (parsed.quote, parsed.event_log) == (domain.quote(REPORT_DATA), b"log")
    without = TdxAttester(domain.quote, None).collect_evidence(REPORT_DATA)
    assert parse_tdx_evidence(without).event_log is None


def test_quote_over_something_else_is_refused() -> None:
    old = FakeTdx().quote(bytes(64))
    with pytest.raises(PeerError) as caught:
        TdxAttester(lambda _: old, None).collect_evidence(REPORT_DATA)
    assert caught.value.reason == "attest.report"


@pytest.mark.parametrize(
    ("quote", "reason"),
    [
        (b"", "tdx_quote.truncated"),
        (FakeTdx(version=3).quote(REPORT_DATA), "tdx_quote.version"),
        (FakeTdx().quote(REPORT_DATA) + bytes(16 * 1024), "tdx_quote.length"),
    ],
)
def test_host_that_gives_no_quote_is_refused(quote: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        TdxAttester(lambda _: quote, None).collect_evidence(REPORT_DATA)
    assert caught.value.reason == reason


def test_logs_are_joined_where_firmwares_ends() -> None:
    boot = FakeBoot()
    area = boot.log + b"left over" + bytes(60_000)
    joined = join_event_logs(area, OWN)
    assert joined == boot.log.removesuffix(END_OF_RECORDS) + OWN + END_OF_RECORDS
    log = parse_event_log(joined, Algorithm.SHA384, end_marker=True)
    assert [event.register for event in log.events] == [
        *(event.register for event in boot.events),
        4,
    ]
    # Memory that was never written ends a log as well.
    unmarked = boot.log.removesuffix(END_OF_RECORDS)
    assert join_event_logs(unmarked + bytes(60_000), b"") == boot.log


def test_without_firmwares_log_the_own_one_has_a_header() -> None:
    joined = join_event_logs(None, OWN)
    assert joined is not None
    (event,) = parse_event_log(joined, Algorithm.SHA384, end_marker=True).events
    assert event.register == 4
    assert join_event_logs(None, b"") is None


def test_firmware_log_that_is_none_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        join_event_logs(bytes(64), OWN)
    assert caught.value.reason == "event_log.header"
