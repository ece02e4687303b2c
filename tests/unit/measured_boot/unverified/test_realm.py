"""Layouts are written out by hand here, from the specification's tables."""

import hashlib
import struct
from functools import partial

import pytest

from ccinit.errors import FormatError
from measured_boot.unverified.realm import RealmHash, RealmMeasurement, RealmParameters

PARAMETERS = RealmParameters(
    algorithm=RealmHash.SHA256,
    flags=0x6,
    s2sz=0x28,
    sve_vl=3,
    num_bps=5,
    num_wps=4,
    pmu_num_ctrs=6,
)
GRANULE = b"g" * 4096


def page(fields: dict[int, bytes], size: int = 4096) -> bytes:
    data = bytearray(size)
    for offset, value in fields.items():
        data[offset : offset + len(value)] = value
    return bytes(data)


def first(algorithm: str, number: int) -> bytes:
    fields = {0x0: b"\6", 0x8: b"\x28", 0x10: b"\3", 0x18: b"\5", 0x20: b"\4", 0x28: b"\6"}
    return hashlib.new(algorithm, page({**fields, 0x30: bytes([number])})).digest()


def descriptor(kind: int, rim: bytes, content: bytes) -> bytes:
    return page({0: bytes([kind]), 8: b"\0\1", 0x10: rim, 0x50: content}, 0x100)


@pytest.mark.parametrize(("algorithm", "number"), [("sha256", 0), ("sha512", 1)])
def test_realm_begins_with_its_parameters(algorithm: str, number: int) -> None:
    parameters = RealmParameters(
        algorithm=RealmHash(algorithm),
        **{name: getattr(PARAMETERS, name) for name in PARAMETERS.__slots__ if name != "algorithm"},
    )
    assert RealmMeasurement(parameters).rim == first(algorithm, number)


def test_add_data_measures_place_and_content() -> None:
    realm = RealmMeasurement(PARAMETERS)
    realm.add_data(0x80200000, GRANULE)
    content = struct.pack("<QQ", 0x80200000, 1) + hashlib.sha256(GRANULE).digest()
    assert realm.rim == hashlib.sha256(descriptor(0, first("sha256", 0), content)).digest()


def test_add_range_measures_its_ends() -> None:
    realm = RealmMeasurement(PARAMETERS)
    realm.add_range(0x80000000, 0x80200000)
    content = struct.pack("<QQ", 0x80000000, 0x80200000)
    assert realm.rim == hashlib.sha256(descriptor(2, first("sha256", 0), content)).digest()


def test_add_processor_measures_flags_entry_and_registers() -> None:
    realm = RealmMeasurement(PARAMETERS)
    realm.add_processor(1, 0x80200000, (0x83000000, 0, 0, 0, 0, 0, 0, 7))
    fields = {0: b"\1", 0x200: struct.pack("<Q", 0x80200000), 0x300: b"\0\0\0\x83", 0x338: b"\7"}
    content = hashlib.sha256(page(fields)).digest()
    assert realm.rim == hashlib.sha256(descriptor(1, first("sha256", 0), content)).digest()


def test_order_of_calls_matters() -> None:
    one, two = RealmMeasurement(PARAMETERS), RealmMeasurement(PARAMETERS)
    one.add_data(0x1000, GRANULE)
    one.add_range(0x2000, 0x3000)
    two.add_range(0x2000, 0x3000)
    two.add_data(0x1000, GRANULE)
    assert one.rim != two.rim


def test_wrong_calls_are_refused() -> None:
    realm = RealmMeasurement(PARAMETERS)
    before = realm.rim
    for reason, call in (
        ("realm.address", partial(realm.add_data, 0x1001, GRANULE)),
        ("realm.data", partial(realm.add_data, 0x1000, GRANULE[:-1])),
        ("realm.address", partial(realm.add_range, 0x1000, 0x1000)),
        ("realm.address", partial(realm.add_range, 0x1000, 0x2001)),
        ("realm.processor", partial(realm.add_processor, 0, 0, (0,) * 7)),
    ):
        with pytest.raises(FormatError) as error:
            call()
        assert error.value.reason == reason
    assert realm.rim == before
