"""TDREPORT and body as laid out by hand from Intel's tables."""

import struct

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.tdx_report import parse_td_report, read_td_report_body
from tests.fakes.platforms.tdx_device import td_report
from tests.fakes.platforms.tdx_quote import FakeTdx, measurement

DOMAIN = FakeTdx(
    mrconfigid=measurement("document"), rtmrs=[measurement(f"rtmr {index}") for index in range(4)]
)


def test_parse_td_report_reads_what_a_guest_needs() -> None:
    report = parse_td_report(td_report(DOMAIN, b"challenge".ljust(64, b"\0")))
    assert report.report_data == b"challenge".ljust(64, b"\0")
    assert report.mrconfigid == DOMAIN.mrconfigid
    assert report.rtmrs == tuple(DOMAIN.rtmrs)
    assert report.td_attributes == DOMAIN.td_attributes


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "tdx_report.length"),
        (td_report(DOMAIN, bytes(64))[:-1], "tdx_report.length"),
        (td_report(DOMAIN, bytes(64)) + b"\0", "tdx_report.length"),
        (struct.pack("<B1023x", 0), "tdx_report.type"),
    ],
)
def test_parse_td_report_refuses(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_td_report(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("length", [0, 583, 585, 647, 649])
def test_body_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError) as caught:
        read_td_report_body(bytes(length))
    assert caught.value.reason == "tdx_report.length"
