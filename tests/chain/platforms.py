"""What vouches for the guests: a vTPM of this host, or a platform that a guest simulates.

None of it protects anything here. The vTPM measures the production image. Simulations exist only in
the `test` image (`ccinit.attest.simulated`) and measure constants. They exercise everything beyond
the processor: the launch field that the guest compares, evidence in its real format, the vendor's
chain, and the verifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ccinit.attest.simulated import sample, snp, tdx
from ccinit.attest.simulated.machine import serial_number
from ccinit.formats.evidence.tee import Binding, Tee, initdata_binding
from ccinit.formats.initdata.document import document_digest
from guest_owner.kbs.references.measurements.image import Measurements, SnpMeasurements
from guest_owner.kbs.references.measurements.sample import SampleMeasurements
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements
from guest_owner.kbs.references.values import Profile, ReferenceSet

_SNP_REQUIREMENTS = """version = 1
report_version = 3

[[product]]
name = "Milan"
bootloader = 4
tee = 0
snp = 24
microcode = 219

[policy]
allow = ["smt"]
"""
_TDX_REQUIREMENTS = f"""version = 1
xfam = "00000000000602e7"
td_attributes = "0000000010000000"
mrseam = ["{tdx.MRSEAM.hex()}"]

[tcb]
fmspc = ["00806f050000"]
tee_tcb_svn = "05010200000000000000000000000000"
cpu_svn = "07070202030100030000000000000000"
pce_svn = 13
qe_mrsigner = "c7085ef08e02d25c3f541967bf3ec012e79210c17de6d41b51fae038d2b11fc4"
qe_isv_svn = 8
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What an owner registers to accept guests that simulate a platform.

    Attributes:
        roots: certificates of the vendor that does not exist; None where nobody signs.
        requirements: what is demanded of the platform, as a file has it; may be empty likewise.
        measured: the constants.
        group: where the KBS's audit log has what was measured.
        quoted: what it has to have there.
    """

    tee: Tee
    roots: Path | None
    requirements: str
    measured: Measurements
    group: str
    quoted: Mapping[str, str]

    @property
    def reference(self) -> ReferenceSet:
        """The reference set, of the `test` profile."""
        return ReferenceSet(name="demo", profile=Profile.TEST, measured=self.measured)

    def serial_number(self, document: bytes) -> str:
        """Return what tells a machine to simulate, and what the host binds at its launch."""
        place = initdata_binding(self.tee)
        if place.binding is Binding.NOTHING:
            return serial_number(self.tee)
        return serial_number(self.tee, document_digest(document, place.algorithm))


SNP: Final = Simulation(
    tee=Tee.SNP,
    roots=Path("tests/vectors/snp_sim/ask_ark.pem"),
    requirements=_SNP_REQUIREMENTS,
    measured=SnpMeasurements(values=(snp.MEASUREMENT,)),
    group="snp",
    quoted={"measurement": snp.MEASUREMENT.hex()},
)
TDX: Final = Simulation(
    tee=Tee.TDX,
    roots=Path("tests/vectors/tdx_sim/root.pem"),
    requirements=_TDX_REQUIREMENTS,
    measured=TdxMeasurements(mrtd=tdx.MRTD, rtmr1=tdx.RTMRS[1], rtmr2=tdx.RTMRS[2], events={}),
    group="rtmr",
    quoted={"1": tdx.RTMRS[1].hex(), "2": tdx.RTMRS[2].hex()},
)


SAMPLE: Final = Simulation(
    tee=Tee.SAMPLE,
    roots=None,
    requirements="",
    measured=SampleMeasurements(svns=(sample.SVN,)),
    group="sample",
    quoted={"svn": sample.SVN},
)


class TrustedPlatform(StrEnum):
    """By the name that `make demo TEE=` takes."""

    TPM = "tpm"
    SNP_SIM = "snp-sim"
    TDX_SIM = "tdx-sim"
    SAMPLE_TEST = "sample-test"

    @property
    def simulation(self) -> Simulation | None:
        """How it is simulated; None where it is not."""
        return _SIMULATIONS.get(self)

    @property
    def tee(self) -> Tee:
        """The name of its verifier."""
        return Tee.TPM if self.simulation is None else self.simulation.tee

    @property
    def binds_initdata(self) -> bool:
        """Whether evidence says which document a guest has."""
        return initdata_binding(self.tee).binding is not Binding.NOTHING

    @property
    def profile(self) -> str:
        """Whose image the guests boot."""
        return "prod" if self.simulation is None else "test"

    @property
    def uki(self) -> str:
        """The file of that image."""
        return f"ccinit-{self.profile}.efi"

    @property
    def group(self) -> str:
        """Where the KBS's audit log has what was measured."""
        return "pcr" if self.simulation is None else self.simulation.group

    def serial_number(self, document: Path) -> str:
        """Return what a machine that simulates has as its serial number; else nothing."""
        if self.simulation is None:
            return ""
        return self.simulation.serial_number(document.read_bytes())


_SIMULATIONS = {
    TrustedPlatform.SNP_SIM: SNP,
    TrustedPlatform.TDX_SIM: TDX,
    TrustedPlatform.SAMPLE_TEST: SAMPLE,
}


def claimed_initdata(tee: Tee, digest: str) -> str:
    """Return how the audit log names a document by the hex digest that the platform holds."""
    return f"{initdata_binding(tee).algorithm}:{digest}"


def claimed_document(serial: str, document: Path) -> str:
    """Return how the audit log names what a guest that simulates has.

    Args:
        serial: of its machine: the document that its host bound at launch.
        document: what it was given, which is all there is where nothing is bound.
    """
    tee = next(
        one.tee for one in _SIMULATIONS.values() if serial.startswith(serial_number(one.tee))
    )
    bound = serial.removeprefix(serial_number(tee))
    if not bound:
        bound = document_digest(document.read_bytes(), initdata_binding(tee).algorithm).hex()
    return claimed_initdata(tee, bound)
