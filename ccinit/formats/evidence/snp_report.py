"""The attestation report of SEV-SNP, versions 2 to 5, as the secure processor makes it.

SEV Secure Nested Paging Firmware ABI Specification (AMD 56860, revision 1.58), table 23
"ATTESTATION_REPORT" and table 24 "PLATFORM_INFO"; the guest policy is table 9, the TCB version
section 2.2 (Turin has another order of its bytes). 1184 bytes, little endian: 672 that are signed,
then an ECDSA signature on P-384 (chapter 10). Reserved bytes must be zero, so that a report can be
carried field by field and reassembled exactly. Judging it is left to the verifier.
"""

import struct
from collections.abc import Mapping
from enum import IntFlag
from typing import Final

from ccinit.errors import FormatError
from ccinit.values import frozen

REPORT_BYTES = 1184
SIGNED_BYTES = 672
SIGNATURE_PART_BYTES = 72
MEASUREMENT_BYTES = 48
CHIP_ID_BYTES = 64
MIN_VERSION, MAX_VERSION = 2, 5

ECDSA_P384_SHA384 = 1
FAMILY_TURIN = 0x1A  # CPUID family whose TCB version begins with the FMC

_RESERVED_SIGNATURE_BYTES = REPORT_BYTES - SIGNED_BYTES - 2 * SIGNATURE_PART_BYTES


class PolicyBit(IntFlag):
    """Bits of the guest policy (table 9); 0 to 15 are the least ABI version."""

    SMT = 1 << 16
    MUST_BE_ONE = 1 << 17
    MIGRATE_MA = 1 << 18
    DEBUG = 1 << 19
    SINGLE_SOCKET = 1 << 20
    CXL = 1 << 21
    MEM_AES_256_XTS = 1 << 22
    RAPL_OFF = 1 << 23
    CIPHERTEXT_HIDING = 1 << 24
    PAGE_SWAP_OFF = 1 << 25


class PlatformBit(IntFlag):
    """Bits of PLATFORM_INFO (table 24)."""

    SMT = 1 << 0
    TSME = 1 << 1
    ECC = 1 << 2
    RAPL_OFF = 1 << 3
    CIPHERTEXT_HIDING = 1 << 4
    ALIAS_CHECKED = 1 << 5
    IOMMU_WRITE_SAFE = 1 << 6  # Turin; AMD-SB-3016
    TIO = 1 << 7


class KeyBit(IntFlag):
    """Bits of the word that says which key signed; 2 to 4 are `SIGNING_KEY`."""

    AUTHOR_KEY = 1 << 0
    MASK_CHIP_KEY = 1 << 1


SIGNING_KEY_SHIFT, SIGNING_KEY_MASK = 2, 0b111
SIGNED_BY_VCEK, SIGNED_BY_VLEK = 0, 1


_ORDER: Final = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_TURIN_ORDER: Final = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}

# Name and struct code of each field, in the order of the table.
_FIELDS: Final = (
    ("version", "I"),
    ("guest_svn", "I"),
    ("policy", "Q"),
    ("family_id", "16s"),
    ("image_id", "16s"),
    ("vmpl", "I"),
    ("sig_algo", "I"),
    ("current_tcb", "8s"),
    ("plat_info", "Q"),
    ("key_info", "I"),
    ("reserved_04c", "4s"),
    ("report_data", "64s"),
    ("measurement", "48s"),
    ("host_data", "32s"),
    ("id_key_digest", "48s"),
    ("author_key_digest", "48s"),
    ("report_id", "32s"),
    ("report_id_ma", "32s"),
    ("reported_tcb", "8s"),
    ("cpuid_fam_id", "B"),
    ("cpuid_mod_id", "B"),
    ("cpuid_step", "B"),
    ("reserved_18b", "21s"),
    ("chip_id", "64s"),
    ("committed_tcb", "8s"),
    ("current", "4s"),
    ("committed", "4s"),
    ("launch_tcb", "8s"),
    ("launch_mit_vector", "Q"),
    ("current_mit_vector", "Q"),
    ("reserved_208", "152s"),
)
_LAYOUT: Final = struct.Struct("<" + "".join(code for _, code in _FIELDS))
_NAMES: Final = tuple(name for name, _ in _FIELDS)
_RESERVED: Final = frozenset(name for name in _NAMES if name.startswith("reserved_"))
_TCBS: Final = frozenset(name for name in _NAMES if name.endswith("_tcb"))
_VERSIONS: Final = frozenset(("current", "committed"))
# Since which version of the report a field exists.
_OPTIONAL: Final = {
    "cpuid_fam_id": 3,
    "cpuid_mod_id": 3,
    "cpuid_step": 3,
    "launch_mit_vector": 5,
    "current_mit_vector": 5,
}
_PLAIN: Final = frozenset(_NAMES) - _RESERVED - _TCBS - _VERSIONS - frozenset(_OPTIONAL)

BYTE_FIELDS: Final[Mapping[str, int]] = {
    name: int(code[:-1]) for name, code in _FIELDS if name in _PLAIN and code.endswith("s")
}
NUMBER_FIELDS: Final = tuple(
    name for name, code in _FIELDS if name in _PLAIN and code in {"I", "Q"}
)
OPTIONAL_FIELDS: Final = tuple(_OPTIONAL)
TCB_FIELDS: Final = tuple(name for name in _NAMES if name in _TCBS)
"""The fields by kind, for `ccinit.formats.evidence.snp`."""


@frozen
class TcbVersion:
    """Security versions of the firmware's parts, one byte each; `fmc` on Turin only."""

    fmc: int | None
    bootloader: int
    tee: int
    snp: int
    microcode: int

    def __str__(self) -> str:
        fmc = "" if self.fmc is None else f"fmc {self.fmc}, "
        return (
            f"{fmc}bootloader {self.bootloader}, tee {self.tee}, snp {self.snp}, "
            f"microcode {self.microcode}"
        )

    def at_least(self, floor: "TcbVersion") -> bool:
        """Whether no part is older than that of `floor`."""
        return (
            (self.fmc or 0) >= (floor.fmc or 0)
            and self.bootloader >= floor.bootloader
            and self.tee >= floor.tee
            and self.snp >= floor.snp
            and self.microcode >= floor.microcode
        )


@frozen
class FirmwareVersion:
    """ABI version and build of the secure processor's firmware."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"

    def at_least(self, floor: "FirmwareVersion") -> bool:
        """Whether this is not older than `floor`."""
        return (self.major, self.minor, self.build) >= (floor.major, floor.minor, floor.build)


@frozen
class SnpReport:
    """One report.

    Attributes:
        policy: see PolicyBit.
        plat_info: see PlatformBit.
        key_info: see KeyBit.
        cpuid_fam_id, cpuid_mod_id, cpuid_step: of the processor; None before version 3.
        launch_mit_vector, current_mit_vector: mitigations that are in place; None before version 5.
        signature_r, signature_s: 72 bytes each, little endian.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    sig_algo: int
    current_tcb: TcbVersion
    plat_info: int
    key_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: TcbVersion
    cpuid_fam_id: int | None
    cpuid_mod_id: int | None
    cpuid_step: int | None
    chip_id: bytes
    committed_tcb: TcbVersion
    current: FirmwareVersion
    committed: FirmwareVersion
    launch_tcb: TcbVersion
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: bytes
    signature_s: bytes

    @property
    def signed_bytes(self) -> bytes:
        """The 672 bytes that the signature is over.

        Raises:
            FormatError: `snp_report.form`, a field does not fit its place.
        """
        turin = self.cpuid_fam_id == FAMILY_TURIN
        values: dict[str, object] = {name: getattr(self, name) for name in _PLAIN}
        values |= {name: getattr(self, name) or 0 for name in _OPTIONAL}
        for name in _TCBS:
            values[name] = _encode_tcb(getattr(self, name), turin=turin)
        for name in _VERSIONS:
            version: FirmwareVersion = getattr(self, name)
            values[name] = bytes((version.build, version.minor, version.major, 0))
        values |= dict.fromkeys(_RESERVED, b"")
        try:
            return _LAYOUT.pack(*(values[name] for name in _NAMES))
        except struct.error as error:
            raise FormatError("snp_report.form", str(error)) from error

    def to_bytes(self) -> bytes:
        """The 1184 bytes of the report."""
        reserved = bytes(_RESERVED_SIGNATURE_BYTES)
        return self.signed_bytes + self.signature_r + self.signature_s + reserved


def parse_snp_report(data: bytes) -> SnpReport:
    """Read a report.

    Raises:
        FormatError: `snp_report.length`, `snp_report.version` or `snp_report.reserved`.
    """
    if len(data) != REPORT_BYTES:
        raise FormatError("snp_report.length", f"{len(data)} bytes, a report has {REPORT_BYTES}")
    values = dict(zip(_NAMES, _LAYOUT.unpack_from(data), strict=True))
    version = values["version"]
    if not MIN_VERSION <= version <= MAX_VERSION:
        raise FormatError(
            "snp_report.version", f"{version}, known are {MIN_VERSION} to {MAX_VERSION}"
        )
    _refuse_reserved(values, data)
    for name, since in _OPTIONAL.items():
        if version < since:
            values[name] = None
    turin = values["cpuid_fam_id"] == FAMILY_TURIN
    for name in _TCBS:
        values[name] = _parse_tcb(values[name], turin=turin)
    for name in _VERSIONS:
        build, minor, major, _reserved = values[name]
        values[name] = FirmwareVersion(major=major, minor=minor, build=build)
    middle = SIGNED_BYTES + SIGNATURE_PART_BYTES
    return SnpReport(
        signature_r=data[SIGNED_BYTES:middle],
        signature_s=data[middle : middle + SIGNATURE_PART_BYTES],
        **{name: value for name, value in values.items() if name not in _RESERVED},
    )


def _refuse_reserved(values: Mapping[str, object], data: bytes) -> None:
    used = {name for name in _RESERVED if any(_bytes_of(values[name]))}
    used |= {name for name in _VERSIONS if _bytes_of(values[name])[3]}
    version = values["version"]
    used |= {
        name
        for name, since in _OPTIONAL.items()
        if isinstance(version, int) and version < since and values[name]
    }
    if any(data[-_RESERVED_SIGNATURE_BYTES:]):
        used.add("signature")
    if used:
        raise FormatError("snp_report.reserved", f"not zero: {', '.join(sorted(used))}")


def _bytes_of(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _parse_tcb(data: bytes, *, turin: bool) -> TcbVersion:
    order = _TURIN_ORDER if turin else _ORDER
    if any(byte for index, byte in enumerate(data) if index not in order.values()):
        raise FormatError("snp_report.reserved", "not zero: a TCB version's reserved bytes")
    parts = {name: data[index] for name, index in order.items()}
    fmc = parts.pop("fmc", None)
    return TcbVersion(fmc=fmc, **parts)


def _encode_tcb(tcb: TcbVersion, *, turin: bool) -> bytes:
    if (tcb.fmc is not None) is not turin:
        raise FormatError("snp_report.form", "an FMC version belongs to Turin, and to it alone")
    data = bytearray(8)
    for name, index in (_TURIN_ORDER if turin else _ORDER).items():
        data[index] = getattr(tcb, name)
    return bytes(data)
