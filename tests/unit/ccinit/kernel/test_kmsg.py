"""Records of the kernel log."""

import pytest

from ccinit.errors import FormatError
from ccinit.kernel.kmsg import KernelRecord, parse_record


def test_parse_record_reads_header_and_text() -> None:
    record = parse_record(b"30,1234,5678901,-;systemd[1]: x; y\n SUBSYSTEM=acpi\n", 1234)
    assert record == KernelRecord(
        priority=6,
        sequence=1234,
        boottime_us=5678901,
        text=b"systemd[1]: x; y\n SUBSYSTEM=acpi",
        dropped=0,
    )


def test_parse_record_after_a_gap_counts_what_was_dropped() -> None:
    assert parse_record(b"6,20,1,-;text\n", 15).dropped == 5


def test_parse_record_takes_more_header_fields() -> None:
    assert parse_record(b"6,1,2,-,caller=T1;text\n", 1).text == b"text"


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"6,1,2,-", b"6,1;text", b"a,1,2,-;text", b"-1,1,2,-;text"),
        b"6,%b,2,-;text" % (b"9" * 5000),
    ],
)
def test_parse_record_without_a_header_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse_record(data, 0)
    assert error.value.reason == "kmsg.record"
