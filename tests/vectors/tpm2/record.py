"""Record `transcript.json`: what the guest's code and a TPM emulator said to each other.

Run as `python -m tests.vectors.tpm2.record` with `CCINIT_TOOLS` set; every run has other keys, so
the file changes as a whole.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from ccinit.attest.tpm import AK_HANDLE, TpmAttester
from ccinit.formats.evidence.tee import ReportData
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.initdata import bind_initdata
from ccinit.measure.register import Pcr
from ccinit.measure.tpm_pcr import TpmPcr
from tests.fakes.platforms.swtpm import Swtpm

TRANSCRIPT = Path(__file__).with_name("transcript.json")
DIGEST = hashlib.sha256(b"initdata").digest()
REPORT_DATA = ReportData(bytes(range(32)))


class RecordingDevice(TpmDevice):
    """Keeps each command and its reply."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.exchanges: list[tuple[str, str]] = []

    def transmit(self, command: bytes) -> bytes:
        reply = super().transmit(command)
        self.exchanges.append((command.hex(), reply.hex()))
        return reply


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        tpm = Swtpm(Path(directory))
        try:
            tpm.provision(AK_HANDLE)
            with RecordingDevice(tpm.connect()) as device:
                bind_initdata(TpmPcr(device, Pcr.INITDATA), DIGEST)
                TpmAttester(device).collect_evidence(REPORT_DATA)
                TRANSCRIPT.write_text(json.dumps(device.exchanges, indent=1) + "\n")
        finally:
            tpm.stop()


if __name__ == "__main__":
    main()
