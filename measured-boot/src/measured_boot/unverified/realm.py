"""RIM: the initial measurement of a realm under Arm CCA, from the calls that built it. Unverified.

The monitor measures what the host asks for, in the order of its calls: parameters, ranges of
memory, pages of content, processors. Which calls a host makes depends on its QEMU, on memory layout
and on a generated device tree; so the calls are the input here, and nothing is guessed. No result
was compared with a real realm, so none is used in reference values or policies.

Specification: Arm, Realm Management Monitor DEN0137 1.0-rel0, sections B4.3.9.4 (RMI_REALM_CREATE,
initialization of RIM), B4.3.12.4 (RMI_REC_CREATE, extension of RIM), and the same of
RMI_DATA_CREATE and RMI_RTT_INIT_RIPAS.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from ccinit.errors import FormatError

RealmInitialMeasurement = NewType("RealmInitialMeasurement", bytes)
"""RIM: 32 bytes with SHA-256, 64 with SHA-512."""

GRANULE_BYTES: Final = 4096
PROCESSOR_REGISTERS: Final = 8
_SLOT_BYTES: Final = 64
_DESCRIPTOR_BYTES: Final = 0x100
_PARAMETER_BYTES: Final = 0x1000
_DATA, _PROCESSOR, _RANGE = 0, 1, 2
_MEASURE_CONTENT: Final = 1
_HEAD: Final = struct.Struct("<B7xQ64s")  # kind, length, the measurement so far
_REALM: Final = struct.Struct("<QB7xB7xB7xB7xB7xB")
_PC_OFFSET: Final = 0x200
_REGISTERS_OFFSET: Final = 0x300


class RealmHash(StrEnum):
    """Algorithms that a realm can be measured with."""

    SHA256 = "sha256"
    SHA512 = "sha512"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmParameters:
    """What RMI_REALM_CREATE is given, as encoded there; each but `flags` is one byte."""

    algorithm: RealmHash
    flags: int
    s2sz: int
    sve_vl: int
    num_bps: int
    num_wps: int
    pmu_num_ctrs: int


class RealmMeasurement:
    """The measurement of a realm while calls are added to it."""

    def __init__(self, parameters: RealmParameters) -> None:
        self._algorithm = parameters.algorithm
        encoded = _REALM.pack(
            parameters.flags,
            parameters.s2sz,
            parameters.sve_vl,
            parameters.num_bps,
            parameters.num_wps,
            parameters.pmu_num_ctrs,
            tuple(RealmHash).index(parameters.algorithm),
        )
        self._rim = self._hash(encoded.ljust(_PARAMETER_BYTES, b"\0"))

    @property
    def rim(self) -> RealmInitialMeasurement:
        """The measurement so far."""
        return RealmInitialMeasurement(self._rim)

    def add_data(self, address: int, granule: bytes) -> None:
        """Add RMI_DATA_CREATE of one granule whose content is measured.

        Raises:
            FormatError: `realm.address`, `realm.data`.
        """
        _require_aligned(address)
        if len(granule) != GRANULE_BYTES:
            raise FormatError("realm.data", f"{len(granule)} bytes are not a granule")
        fixed = struct.pack("<QQ", address, _MEASURE_CONTENT)
        self._extend(_DATA, fixed + self._hash(granule))

    def add_range(self, base: int, top: int) -> None:
        """Add RMI_RTT_INIT_RIPAS of one entry of the realm's translation table.

        Raises:
            FormatError: `realm.address`.
        """
        _require_aligned(base | top)
        if not base < top:
            raise FormatError("realm.address", f"an empty range at {base:#x}")
        self._extend(_RANGE, struct.pack("<QQ", base, top))

    def add_processor(self, flags: int, entry: int, registers: tuple[int, ...]) -> None:
        """Add RMI_REC_CREATE.

        Raises:
            FormatError: `realm.processor`: not eight registers.
        """
        if len(registers) != PROCESSOR_REGISTERS:
            raise FormatError("realm.processor", f"expected 8 registers, found {len(registers)}")
        page = bytearray(_PARAMETER_BYTES)
        struct.pack_into("<Q", page, 0, flags)
        struct.pack_into("<Q", page, _PC_OFFSET, entry)
        struct.pack_into(f"<{PROCESSOR_REGISTERS}Q", page, _REGISTERS_OFFSET, *registers)
        self._extend(_PROCESSOR, self._hash(bytes(page)))

    def _extend(self, kind: int, content: bytes) -> None:
        head = _HEAD.pack(kind, _DESCRIPTOR_BYTES, self._rim.ljust(_SLOT_BYTES, b"\0"))
        self._rim = self._hash((head + content).ljust(_DESCRIPTOR_BYTES, b"\0"))

    def _hash(self, data: bytes) -> bytes:
        return hashlib.new(self._algorithm.value, data).digest()


def _require_aligned(address: int) -> None:
    if address % GRANULE_BYTES:
        raise FormatError("realm.address", f"{address:#x} is not at a granule")
