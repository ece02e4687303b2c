"""The report's layout, against offsets written down a second time in the fake."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError
from ccinit.formats.evidence.snp_report import FirmwareVersion, TcbVersion, parse_snp_report
from ccinit.values import replace
from tests.fakes.platforms.snp import FIELDS, FakeSnp, tcb, turin_tcb

REPORT_DATA = bytes(range(64))


def report(**fields: bytes | int) -> bytes:
    return FakeSnp().with_fields(**fields).report(REPORT_DATA)


def reason_of(data: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        parse_snp_report(data)
    return caught.value.reason


def test_each_field_is_where_the_specification_has_it() -> None:
    values = {
        known: bytes((index,)) * size for index, (known, (_, size)) in enumerate(FIELDS.items(), 1)
    }
    values |= {"version": bytes((5, 0, 0, 0)), "reserved": bytes(4)}
    values |= dict.fromkeys(
        ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"), tcb(1, 2, 3, 4)
    )
    parsed = parse_snp_report(report(**values))
    for known, value in values.items():
        if known in {"reserved", "current", "committed"} or known.endswith("_tcb"):
            continue
        found = getattr(parsed, known)
        assert found in (value, int.from_bytes(value, "little")), known
    assert parsed.reported_tcb == TcbVersion(fmc=None, bootloader=1, tee=2, snp=3, microcode=4)


def test_versions_and_turins_tcb_have_their_own_order() -> None:
    tcbs = dict.fromkeys(
        ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"), turin_tcb(1, 2, 3, 4, 5)
    )
    data = report(cpuid_fam_id=0x1A, current=bytes((7, 55, 1)), **tcbs)
    parsed = parse_snp_report(data)
    assert parsed.to_bytes() == data
    assert parsed.current == FirmwareVersion(major=1, minor=55, build=7)
    assert parsed.launch_tcb == TcbVersion(fmc=1, bootloader=2, tee=3, snp=4, microcode=5)
    assert (str(parsed.current), str(parsed.launch_tcb)[:6]) == ("1.55.7", "fmc 1,")


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_report_is_put_together_again_to_the_byte(version: int) -> None:
    absent: dict[str, int] = {"launch_mit_vector": 0, "current_mit_vector": 0}
    absent = absent if version < 5 else {}
    if version < 3:
        absent |= {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0}
    data = report(version=version, **absent)
    parsed = parse_snp_report(data)
    assert parsed.to_bytes() == data
    assert (parsed.cpuid_fam_id is None) is (version < 3)
    assert (parsed.launch_mit_vector is None) is (version < 5)


@pytest.mark.parametrize("length", [0, 1183, 1185, 4000])
def test_other_length_is_refused(length: int) -> None:
    assert reason_of(bytes(length)) == "snp_report.length"


@pytest.mark.parametrize("version", [0, 1, 6, 0xFFFFFFFF])
def test_version_that_nobody_knows_is_refused(version: int) -> None:
    assert reason_of(report(version=version)) == "snp_report.version"


@pytest.mark.parametrize("offset", [0x04C, 0x18B, 0x19F, 0x1EB, 0x1EF, 0x208, 0x29F, 0x330, 0x49F])
def test_reserved_bytes_are_refused(offset: int) -> None:
    data = bytearray(report())
    assert parse_snp_report(bytes(data))
    data[offset] = 1
    assert reason_of(bytes(data)) == "snp_report.reserved"


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 4},
        {"version": 2, "launch_mit_vector": 0, "current_mit_vector": 0},
        {"reported_tcb": b"\0\0\1" + bytes(5)},
        {"cpuid_fam_id": 0x1A, "reported_tcb": bytes(4) + b"\1" + bytes(3)},
    ],
)
def test_field_of_a_later_version_or_another_product_is_refused(
    fields: dict[str, bytes | int],
) -> None:
    assert reason_of(report(**fields)) == "snp_report.reserved"


def test_newer_in_one_part_and_older_in_another_is_not_at_least() -> None:
    floor = TcbVersion(fmc=None, bootloader=4, tee=1, snp=24, microcode=219)
    newer = TcbVersion(fmc=None, bootloader=5, tee=2, snp=25, microcode=220)
    assert floor.at_least(floor)
    assert newer.at_least(floor)
    assert not replace(newer, bootloader=3).at_least(floor)
    assert not replace(newer, tee=0).at_least(floor)
    assert not replace(newer, snp=23).at_least(floor)
    assert not replace(newer, microcode=218).at_least(floor)


def test_floor_with_an_fmc_is_not_reached_without_one() -> None:
    floor = TcbVersion(fmc=1, bootloader=4, tee=0, snp=24, microcode=219)
    assert floor.at_least(floor)
    assert replace(floor, fmc=2).at_least(floor)
    assert floor.at_least(replace(floor, fmc=None))
    assert not replace(floor, fmc=0).at_least(floor)
    assert not replace(floor, fmc=None).at_least(floor)


@given(position=st.integers(4, 1183), value=st.integers(0, 255))
def test_any_byte_is_carried_or_refused(position: int, value: int) -> None:
    data = bytearray(report())
    data[position] = value
    with suppress(FormatError):
        assert parse_snp_report(bytes(data)).to_bytes() == data
