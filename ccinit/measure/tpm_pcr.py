"""A PCR of a TPM as a measurement register."""

from ccinit.formats.tcg.tpm_commands import Carrier, TpmCommands
from ccinit.measure.register import Pcr
from ccinit.values import frozen


@frozen(kw_only=False)
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
