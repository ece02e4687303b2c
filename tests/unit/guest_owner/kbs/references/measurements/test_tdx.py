"""Reference value files of TDX: written, read again, and refused by the member that is wrong."""

import json
from dataclasses import replace

import pytest

from ccinit.errors import FormatError
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements
from guest_owner.kbs.references.values import encode_reference_set, parse_reference_set
from tests.fakes.platforms.tdx_quote import measurement
from tests.unit.guest_owner.kbs.verifiers.tdx_values import tdx_reference

REFERENCE = tdx_reference()
ENCODED = encode_reference_set(REFERENCE)


def test_reference_set_is_read_as_it_was_written() -> None:
    assert parse_reference_set(ENCODED) == REFERENCE
    value = json.loads(ENCODED)
    assert value["platform"] == "tdx"
    assert value["mrtd"] == measurement("firmware").hex()
    assert value["events"]["1"][0]["subject"] == "RTMR 1 of image-1"


def test_events_may_be_left_out() -> None:
    value = json.loads(ENCODED)
    del value["events"]
    parsed = parse_reference_set(json.dumps(value).encode())
    assert isinstance(parsed.measured, TdxMeasurements)
    assert isinstance(REFERENCE.measured, TdxMeasurements)
    assert parsed.measured == replace(REFERENCE.measured, events={})
    assert parse_reference_set(encode_reference_set(parsed)) == parsed


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("mrtd",), "00" * 48, "reference.mrtd"),
        (("mrtd",), "11" * 47, "reference.mrtd"),
        (("rtmr1",), "00" * 48, "reference.rtmr1"),
        (("rtmr2",), "AA" * 48, "reference.rtmr2"),
        (("rtmr0",), "11" * 48, "reference.unknown"),
        (("tcb",), {}, "reference.unknown"),
        (("events", "0"), [], "reference.events.unknown"),
        (("events", "1"), [{"digest": "11"}], "reference.events.1.digest"),
        (("events", "1"), [{"digest": "11" * 48}], "reference.events.1.subject"),
    ],
)
def test_reference_set_with_one_wrong_member_is_refused(
    path: tuple[str, ...], value: object, reason: str
) -> None:
    table = json.loads(ENCODED)
    inner = table
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(FormatError) as caught:
        parse_reference_set(json.dumps(table).encode())
    assert caught.value.reason == reason
