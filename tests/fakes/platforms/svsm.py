"""An SVSM: it runs a vTPM at VMPL 0 and has the processor report the vTPM's endorsement key.

The manifest and what is hashed are as AMD 58019 (section 7) has them; the TPM is a real emulator,
whose endorsement key tpm2-tools or the guest's own code make of the TCG's default template.
"""

import hashlib
from dataclasses import dataclass

from tests.fakes.platforms.snp import FakeSnp

VTPM = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"


@dataclass(kw_only=True)
class Svsm:
    """What the kernel's configfs-tsm reaches.

    Attributes:
        snp: the processor.
        manifest: of the vTPM: TPMT_PUBLIC of its endorsement key.
        level: the privilege level that reports are of; an SVSM's own is 0.
    """

    snp: FakeSnp
    manifest: bytes
    level: int = 0

    def attest(self, guid: str, nonce: bytes) -> tuple[bytes, bytes]:
        assert guid == VTPM
        assert len(nonce) == 64
        asked = hashlib.sha512(nonce + self.manifest).digest()
        return self.snp.report(asked, self.level), self.manifest
