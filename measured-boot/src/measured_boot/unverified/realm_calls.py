"""Read the list of calls that built a realm, and compute its measurement from them.

    {"version": 1,
     "realm": {"algorithm": "sha256" | "sha512", "flags", "s2sz", "sve_vl", "num_bps", "num_wps",
               "pmu_num_ctrs"},
     "calls": [{"call": "range", "base", "top"},
               {"call": "data", "address", "file": NAME},
               {"call": "processor", "flags", "entry", "registers": {"x0", …, "x7"}}]}

Numbers are as RMI encodes them. A file lies beside the list, begins at its address, and is filled
with zeros to whole granules.
"""

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields
from measured_boot.unverified.realm import (
    GRANULE_BYTES,
    PROCESSOR_REGISTERS,
    RealmHash,
    RealmInitialMeasurement,
    RealmMeasurement,
    RealmParameters,
)

MAX_LIST_BYTES: Final = 1024 * 1024
MAX_CALLS: Final = 4096
_MAX_ADDRESS: Final = (1 << 52) - 1
_MAX_REGISTER: Final = (1 << 64) - 1
_FOLDERS: Final = frozenset({"", ".", ".."})

ReadFile = Callable[[str], bytes]


class _Call(StrEnum):
    RANGE = "range"
    DATA = "data"
    PROCESSOR = "processor"


def measure_calls(data: bytes, read_file: ReadFile) -> RealmInitialMeasurement:
    """Return the RIM of a realm that these calls built.

    Args:
        data: the list, JSON.
        read_file: gives the content of a file that the list names.

    Raises:
        FormatError: with a reason below `realm`.
    """
    if len(data) > MAX_LIST_BYTES:
        raise LimitExceededError("realm.length", f"more than {MAX_LIST_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError("realm.json", "malformed JSON") from error
    with Fields(value, "realm") as fields:
        fields.integer("version", low=1, high=1)
        measurement = RealmMeasurement(fields.table("realm", _read_parameters))
        calls = fields.tables("calls", _read_call, max_items=MAX_CALLS)
    for call in calls:
        call(measurement, read_file)
    return measurement.rim


_Step = Callable[[RealmMeasurement, ReadFile], None]


def _read_parameters(fields: Fields) -> RealmParameters:
    names = ("s2sz", "sve_vl", "num_bps", "num_wps", "pmu_num_ctrs")
    numbers: Mapping[str, Any] = {name: fields.integer(name, low=0, high=0xFF) for name in names}
    return RealmParameters(
        algorithm=fields.choice("algorithm", RealmHash),
        flags=fields.integer("flags", low=0, high=_MAX_REGISTER),
        **numbers,
    )


def _read_call(fields: Fields) -> _Step:
    match fields.choice("call", _Call):
        case _Call.RANGE:
            base = fields.integer("base", low=0, high=_MAX_ADDRESS)
            top = fields.integer("top", low=0, high=_MAX_ADDRESS)
            return lambda realm, _: realm.add_range(base, top)
        case _Call.DATA:
            address = fields.integer("address", low=0, high=_MAX_ADDRESS)
            name = fields.text("file", max_bytes=255)
            if "/" in name or name in _FOLDERS:
                raise FormatError("realm.file", f"{name!r} does not lie beside the list")
            return lambda realm, read: _add_file(realm, address, read(name))
        case _Call.PROCESSOR:
            return _read_processor(fields)


def _read_processor(fields: Fields) -> _Step:
    flags = fields.integer("flags", low=0, high=_MAX_REGISTER)
    entry = fields.integer("entry", low=0, high=_MAX_REGISTER)
    names = [f"x{number}" for number in range(PROCESSOR_REGISTERS)]
    registers = fields.table(
        "registers",
        lambda row: tuple(row.integer(name, low=0, high=_MAX_REGISTER) for name in names),
    )
    return lambda realm, _: realm.add_processor(flags, entry, registers)


def _add_file(realm: RealmMeasurement, address: int, data: bytes) -> None:
    for offset in range(0, len(data), GRANULE_BYTES):
        granule = data[offset : offset + GRANULE_BYTES].ljust(GRANULE_BYTES, b"\0")
        realm.add_data(address + offset, granule)
