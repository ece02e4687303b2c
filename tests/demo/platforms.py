"""What vouches for the demo's guests: a vTPM of this host, or a simulated SEV-SNP.

Neither protects anything here. The vTPM measures the production image; the simulation is in the
`test` image only (`ccinit.attest.simulated`), its launch measurement is a constant, and what it
shows is everything behind the processor: the launch field that the guest compares, reports in their
real format, the vendor's chain, and the verifier.
"""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Final

from ccinit.attest.simulated import MEASUREMENT, PREFIX

SIMULATED_ROOTS: Final = Path("tests/vectors/snp_sim/ask_ark.pem")
SIMULATED_REQUIREMENTS: Final = """version = 1
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


class TrustedPlatform(StrEnum):
    """By the name that `make demo TEE=` takes."""

    TPM = "tpm"
    SNP_SIM = "snp-sim"

    @property
    def profile(self) -> str:
        """Whose image the guests boot."""
        return "prod" if self is TrustedPlatform.TPM else "test"

    @property
    def uki(self) -> str:
        """The file of that image."""
        return f"ccinit-{self.profile}.efi"

    @property
    def group(self) -> str:
        """Where the KBS's audit log has what was measured."""
        return "pcr" if self is TrustedPlatform.TPM else "snp"

    def serial_number(self, document: Path) -> str:
        """Return what tells a machine to simulate, and what the host binds at its launch."""
        if self is TrustedPlatform.TPM:
            return ""
        return PREFIX + hashlib.sha256(document.read_bytes()).hexdigest()


def simulated_reference() -> str:
    """Return the reference value file of the simulation."""
    return json.dumps(
        {
            "version": 1,
            "name": "demo",
            "profile": "test",
            "platform": "snp",
            "measurement": [MEASUREMENT.hex()],
        }
    )
