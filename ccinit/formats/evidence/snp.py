"""The `snp` evidence: a report and the certificates of the key that signed it.

The JSON is that of Trustee's `snp` verifier: `{"attestation_report": {…}, "cert_chain": null |
[{"cert_type", "data"}]}`, the report field by field, every byte string as a list of integers. The
certificate table that a hypervisor hands out is that of the GHCB specification (AMD 56421, section
4.1.8.1): entries of GUID, offset and length, the last one all zeros, then the data. A GUID's bytes
may be in either of the two usual orders.
"""

import struct
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import JsonValue, members
from ccinit.formats.evidence.snp_report import (
    BYTE_FIELDS,
    NUMBER_FIELDS,
    OPTIONAL_FIELDS,
    SIGNATURE_PART_BYTES,
    TCB_FIELDS,
    FirmwareVersion,
    SnpReport,
    TcbVersion,
    parse_snp_report,
)
from ccinit.values import frozen

MAX_TABLE_BYTES = 16 * 1024  # SEV_FW_BLOB_MAX_SIZE, what the kernel hands out at most
MAX_CERTIFICATES = 8

_ENTRY = struct.Struct("<16sII")


class CertType(StrEnum):
    """Whose certificate an entry of the table is."""

    ARK = "ARK"
    ASK = "ASK"
    VCEK = "VCEK"
    VLEK = "VLEK"
    CRL = "CRL"


def _mixed(guid: bytes) -> bytes:
    """Return the same GUID with its first three numbers little-endian, as UEFI has them."""
    return guid[3::-1] + guid[5:3:-1] + guid[7:5:-1] + guid[8:]


_BIG_ENDIAN: Final = {
    bytes.fromhex("c0b406a4 a803 4952 9743 3fb6014cd0ae"): CertType.ARK,
    bytes.fromhex("4ab7b379 bbac 4fe4 a02f 05aef327c782"): CertType.ASK,
    bytes.fromhex("63da758d e664 4564 adc5 f4b93be8accd"): CertType.VCEK,
    bytes.fromhex("a8074bc2 a25a 483e aae6 39c045a0b8a1"): CertType.VLEK,
    bytes.fromhex("92f81bc3 5811 4d3d 97ff d19f88dc67ea"): CertType.CRL,
}
# The specification gives GUIDs as text only, and hypervisors encode them differently. An entry's
# type decides nothing: the certificates' signatures do.
_GUIDS: Final = _BIG_ENDIAN | {_mixed(guid): kind for guid, kind in _BIG_ENDIAN.items()}


@frozen
class Certificate:
    """One entry of the table; `data` is DER (a host may also have put PEM there)."""

    cert_type: CertType
    data: bytes


@frozen
class SnpEvidence:
    """A report, and the certificates that the host had for it, often none."""

    report: SnpReport
    certificates: tuple[Certificate, ...]

    def to_json_value(self) -> dict[str, JsonValue]:
        """Return the evidence as Trustee's `snp` verifier reads it."""
        chain = [
            {"cert_type": entry.cert_type.value, "data": list(entry.data)}
            for entry in self.certificates
        ]
        return {"attestation_report": _report_object(self.report), "cert_chain": chain or None}


def parse_certificate_table(data: bytes) -> tuple[Certificate, ...]:
    """Read a certificate table; entries with an unknown GUID are left out.

    Raises:
        LimitExceededError: `snp_certificates.length`, more than 16 KiB or 8 entries.
        FormatError: `snp_certificates.form`.
    """
    if len(data) > MAX_TABLE_BYTES:
        raise LimitExceededError("snp_certificates.length", f"{len(data)} bytes")
    if not any(data):
        return ()  # the host has none: an empty blob, or one that was never written
    found: list[Certificate] = []
    for index in range(MAX_CERTIFICATES + 1):
        position = index * _ENTRY.size
        if position + _ENTRY.size > len(data):
            raise FormatError("snp_certificates.form", "the table has no end")
        guid, offset, length = _ENTRY.unpack_from(data, position)
        if not any(guid):
            return tuple(found)
        if not length or offset + length > len(data):
            raise FormatError("snp_certificates.form", "an entry points outside")
        if guid in _GUIDS:
            entry = data[offset : offset + length]
            found.append(Certificate(cert_type=_GUIDS[guid], data=entry))
    raise LimitExceededError("snp_certificates.length", f"more than {MAX_CERTIFICATES} entries")


def parse_snp_evidence(value: JsonValue) -> SnpEvidence:
    """Read `snp` evidence; missing and unknown members are refused.

    Raises:
        FormatError: `snp_evidence.…`, or `snp_report.…` as of the report's bytes.
    """
    evidence = members(value, frozenset(("attestation_report", "cert_chain")), "snp_evidence")
    return SnpEvidence(
        report=_parse_report(evidence["attestation_report"]),
        certificates=_parse_chain(evidence["cert_chain"]),
    )


def _report_object(report: SnpReport) -> dict[str, JsonValue]:
    value: dict[str, JsonValue] = {
        name: getattr(report, name) for name in (*NUMBER_FIELDS, *OPTIONAL_FIELDS)
    }
    value |= {name: list(getattr(report, name)) for name in BYTE_FIELDS}
    value |= {name: _tcb_object(getattr(report, name)) for name in TCB_FIELDS}
    for name, version in (("current", report.current), ("committed", report.committed)):
        value[name] = {"major": version.major, "minor": version.minor, "build": version.build}
    value["signature"] = {"r": list(report.signature_r), "s": list(report.signature_s)}
    return value


def _tcb_object(tcb: TcbVersion) -> dict[str, JsonValue]:
    return {name: getattr(tcb, name) for name in _TCB_PARTS}


_TCB_PARTS: Final = ("fmc", "bootloader", "tee", "snp", "microcode")
_VERSION_PARTS: Final = ("major", "minor", "build")
# Fields of version 5, which clients of older versions leave out.
_LATE_FIELDS: Final = frozenset(("launch_mit_vector", "current_mit_vector"))
_REPORT_MEMBERS: Final = frozenset(
    (
        *NUMBER_FIELDS,
        *OPTIONAL_FIELDS,
        *BYTE_FIELDS,
        *TCB_FIELDS,
        *("current", "committed", "signature"),
    )
)


def _parse_report(value: JsonValue) -> SnpReport:
    if isinstance(value, Mapping) and not _LATE_FIELDS & set(value):
        value = {**value, **dict.fromkeys(_LATE_FIELDS)}
    table = members(value, _REPORT_MEMBERS, "snp_evidence.report")
    signature = members(table["signature"], frozenset("rs"), "snp_evidence.signature")
    fields: dict[str, Any] = {name: _number(table[name], name) for name in NUMBER_FIELDS}
    fields |= {name: _optional_number(table[name], name) for name in OPTIONAL_FIELDS}
    fields |= {name: _bytes(table[name], name, size) for name, size in BYTE_FIELDS.items()}
    fields |= {name: _parse_tcb(table[name], name) for name in TCB_FIELDS}
    report = SnpReport(
        **fields,
        current=_parse_version(table["current"], "current"),
        committed=_parse_version(table["committed"], "committed"),
        signature_r=_bytes(signature["r"], "signature", SIGNATURE_PART_BYTES),
        signature_s=_bytes(signature["s"], "signature", SIGNATURE_PART_BYTES),
    )
    # Only what encodes to bytes that parse to the same fields is a report.
    if parse_snp_report(report.to_bytes()) != report:
        raise FormatError("snp_evidence.report", "fields that no report of this version has")
    return report


def _parse_tcb(value: JsonValue, name: str) -> TcbVersion:
    table = members(value, frozenset(_TCB_PARTS), f"snp_evidence.{name}")
    fmc = None if table["fmc"] is None else _byte(table["fmc"], name)
    parts = {part: _byte(table[part], name) for part in _TCB_PARTS if part != "fmc"}
    return TcbVersion(fmc=fmc, **parts)


def _parse_version(value: JsonValue, name: str) -> FirmwareVersion:
    table = members(value, frozenset(_VERSION_PARTS), f"snp_evidence.{name}")
    return FirmwareVersion(**{part: _byte(table[part], name) for part in _VERSION_PARTS})


def _parse_chain(value: JsonValue) -> tuple[Certificate, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_CERTIFICATES:
        raise FormatError("snp_evidence.cert_chain", f"expected at most {MAX_CERTIFICATES} entries")
    return tuple(_parse_certificates(value))


def _parse_certificates(entries: Iterable[JsonValue]) -> Iterable[Certificate]:
    for entry in entries:
        table = members(entry, frozenset(("cert_type", "data")), "snp_evidence.cert_chain")
        kind = table["cert_type"]
        if not isinstance(kind, str) or kind not in set(CertType):
            raise FormatError("snp_evidence.cert_chain", "unknown type of certificate")
        data = table["data"]
        if not isinstance(data, list) or not 1 <= len(data) <= MAX_TABLE_BYTES:
            raise FormatError("snp_evidence.cert_chain", "expected 1 byte to 16 KiB")
        yield Certificate(cert_type=CertType(kind), data=_bytes(data, "cert_chain", len(data)))


def _number(value: JsonValue, name: str) -> int:
    if type(value) is not int or value < 0:
        raise FormatError(f"snp_evidence.{name}", "expected a number")
    return value


def _optional_number(value: JsonValue, name: str) -> int | None:
    return None if value is None else _number(value, name)


def _byte(value: JsonValue, name: str) -> int:
    number = _number(value, name)
    if number > 0xFF:
        raise FormatError(f"snp_evidence.{name}", "expected a byte")
    return number


def _bytes(value: JsonValue, name: str, size: int) -> bytes:
    if not isinstance(value, list) or len(value) != size:
        raise FormatError(f"snp_evidence.{name}", f"expected {size} numbers")
    return bytes(_byte(item, name) for item in value)
