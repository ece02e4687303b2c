import json
from typing import Any

import pytest

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.unverified import realm_calls
from measured_boot.unverified.realm import RealmHash, RealmMeasurement, RealmParameters
from measured_boot.unverified.realm_calls import measure_calls

NUMBERS = {"flags": 0, "s2sz": 40, "sve_vl": 0, "num_bps": 1, "num_wps": 1, "pmu_num_ctrs": 0}
REGISTERS = {f"x{number}": number for number in range(8)}
GOOD: dict[str, Any] = {
    "version": 1,
    "realm": {"algorithm": "sha512", **NUMBERS},
    "calls": [
        {"call": "range", "base": 0x1000, "top": 0x5000},
        {"call": "data", "address": 0x1000, "file": "kernel"},
        {"call": "processor", "flags": 1, "entry": 0x1000, "registers": REGISTERS},
    ],
}
FILES = {"kernel": b"k" * 5000}


def measure(**changes: Any) -> bytes:
    return measure_calls(json.dumps({**GOOD, **changes}).encode(), FILES.__getitem__)


def test_measure_calls_follows_the_list() -> None:
    realm = RealmMeasurement(RealmParameters(algorithm=RealmHash.SHA512, **NUMBERS))
    realm.add_range(0x1000, 0x5000)
    realm.add_data(0x1000, b"k" * 4096)
    realm.add_data(0x2000, (b"k" * 904).ljust(4096, b"\0"))
    realm.add_processor(1, 0x1000, tuple(range(8)))
    assert measure() == realm.rim


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "realm.version"),
        ({"more": 1}, "realm.unknown"),
        ({"realm": {"algorithm": "md5", **NUMBERS}}, "realm.realm.algorithm"),
        ({"realm": {"algorithm": "sha256", **NUMBERS, "s2sz": 256}}, "realm.realm.s2sz"),
        ({"calls": [{"call": "extend"}]}, "realm.calls.call"),
        ({"calls": [{"call": "range", "base": 1, "top": 0x1000}]}, "realm.address"),
        ({"calls": [{"call": "range", "base": 0, "top": 1 << 52}]}, "realm.calls.top"),
        (
            {"calls": [{"call": "processor", "flags": 0, "entry": 0, "registers": {}}]},
            "realm.calls.registers.x0",
        ),
    ],
)
def test_measure_calls_refuses(changes: dict[str, Any], reason: str) -> None:
    assert measure()
    with pytest.raises(FormatError) as error:
        measure(**changes)
    assert error.value.reason == reason


@pytest.mark.parametrize("name", ["/etc/passwd", "../kernel", "a/b", "..", "."])
def test_measure_calls_names_no_file_elsewhere(name: str) -> None:
    assert measure()
    with pytest.raises(FormatError) as error:
        measure(calls=[{"call": "data", "address": 0x1000, "file": name}])
    assert error.value.reason == "realm.file"


def test_measure_calls_of_what_is_no_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError) as error:
        measure_calls(b"{", FILES.__getitem__)
    assert error.value.reason == "realm.json"
    monkeypatch.setattr(realm_calls, "MAX_LIST_BYTES", 1)
    with pytest.raises(LimitExceededError) as limit:
        measure()
    assert limit.value.reason == "realm.length"
