"""What each platform measures of an image, in the form of reference values (RATS, RFC 9334).

One class for each platform that has a verifier, with that platform's part of a reference value file
(TDX, Secure Execution and the sample platform have modules beside this). The common part of such a
file is `guest_owner.kbs.references.values`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeAlias

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.evidence.snp_report import MEASUREMENT_BYTES
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.measurements.sample import SampleMeasurements, read_sample
from guest_owner.kbs.references.measurements.se import SeMeasurements, read_se
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements, read_tdx

PCR_BYTES = 32
ZERO_PCR = bytes(PCR_BYTES)
BOOT_PCRS = (4, 9, 11)


class Boot(StrEnum):
    """How firmware starts the kernel, which decides the registers that it measures into."""

    UKI = "uki"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmMeasurements:
    """The predicted registers of a TPM: `"boot": "uki" | "direct", "pcr": {"4": HEX, …}`.

    Attributes:
        pcr: 32 bytes each for PCR 4, 9 and 11; only PCR 11 may be zero, and is with direct boot.
    """

    tee: ClassVar[Tee] = Tee.TPM
    boot: Boot
    pcr: Mapping[int, bytes]

    def __post_init__(self) -> None:
        if set(self.pcr) != set(BOOT_PCRS):
            raise FormatError("reference.pcr", "expected exactly PCR 4, 9 and 11")
        for index in BOOT_PCRS:
            must_be_zero = index == 11 and self.boot is Boot.DIRECT
            if (self.pcr[index] == ZERO_PCR) != must_be_zero:
                wanted = "be zero for direct boot" if must_be_zero else "not be zero"
                raise FormatError(f"reference.pcr.{index}", f"PCR {index} must {wanted}")

    @property
    def identities(self) -> tuple[tuple[bytes, ...], ...]:
        """Each combination of values by which the image is recognised."""
        return (tuple(self.pcr[index] for index in BOOT_PCRS),)

    def to_json_object(self) -> dict[str, object]:
        """Return the members of a reference value file."""
        registers = {str(index): self.pcr[index].hex() for index in BOOT_PCRS}
        return {"boot": self.boot.value, "pcr": registers}


def read_tpm(fields: Fields) -> TpmMeasurements:
    """Read what `TpmMeasurements.to_json_object` wrote; a zero PCR 11 may be left out."""
    boot = fields.choice("boot", Boot)
    return TpmMeasurements(boot=boot, pcr=fields.table("pcr", _read_registers))


def _read_registers(fields: Fields) -> Mapping[int, bytes]:
    registers = {}
    for index in BOOT_PCRS:
        if index == 11 and not fields.has("11"):
            registers[index] = ZERO_PCR
        else:
            registers[index] = fields.hexadecimal(str(index), size_bytes=PCR_BYTES)
    return registers


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpMeasurements:
    """Launch measurements of SEV-SNP: `"measurement": [HEX, …]`.

    Attributes:
        values: 48 bytes each; an image has one for each number and model of virtual processors.
    """

    tee: ClassVar[Tee] = Tee.SNP
    values: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise FormatError("reference.measurement", "expected at least one, each once")
        if any(len(value) != MEASUREMENT_BYTES or not any(value) for value in self.values):
            raise FormatError("reference.measurement", "expected 48 bytes, not zero")

    @property
    def identities(self) -> tuple[tuple[bytes, ...], ...]:
        """Each combination of values by which the image is recognised."""
        return tuple((value,) for value in self.values)

    def to_json_object(self) -> dict[str, object]:
        """Return the members of a reference value file."""
        return {"measurement": [value.hex() for value in self.values]}


def read_snp(fields: Fields) -> SnpMeasurements:
    """Read what `SnpMeasurements.to_json_object` wrote."""
    return SnpMeasurements(
        values=fields.hexadecimals("measurement", size_bytes=MEASUREMENT_BYTES, max_items=1024)
    )


Measurements: TypeAlias = (
    TpmMeasurements | SnpMeasurements | TdxMeasurements | SeMeasurements | SampleMeasurements
)

READERS: Mapping[Tee, Callable[[Fields], Measurements]] = {
    Tee.TPM: read_tpm,
    Tee.SNP: read_snp,
    Tee.TDX: read_tdx,
    Tee.SE: read_se,
    Tee.SAMPLE: read_sample,
}
