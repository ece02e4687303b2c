"""One name for the platform's runtime measurement registers.

A register changes only by `new = H(old || digest)`. Here is the TPM's; which events go where is
decided by `ccinit.agent` and `ccinit.measure.initdata`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from ccinit.formats.tpm_commands import Carrier, TpmCommands


class Pcr(IntEnum):
    """The PCRs of the SHA-256 bank that the guest extends, and no others.

    16 and 23 can be reset by the guest itself, 17 to 22 belong to dynamic launch.
    """

    INITDATA = 8
    EVENT_LOG = 14
    DEBUG = 15


class MeasurementRegister(Protocol):
    """A register of 32 or 48 bytes that can be extended and read, never written."""

    def extend(self, digest: bytes) -> None:
        """Extend with a digest of the register's own length."""

    def read(self) -> bytes:
        """Return the current value."""


@dataclass(frozen=True, slots=True)
class TpmPcr:
    """A PCR of the SHA-256 bank; 32 bytes."""

    device: Carrier
    pcr: Pcr

    def extend(self, digest: bytes) -> None:
        """Extend with a SHA-256 digest."""
        TpmCommands(self.device).extend_pcr(self.pcr, digest)

    def read(self) -> bytes:
        """Return the current value, 32 bytes."""
        return TpmCommands(self.device).read_pcrs((self.pcr,))[0]
