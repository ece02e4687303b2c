"""The platforms of the KBS protocol, and what each of them makes of a digest.

Names and report data are those of RCAR (Confidential Containers, `kbs_attestation_protocol.md`, and
the verifiers of its Attestation Service); where a platform holds the initdata digest is its
`initdata.md`. Which of the two hashes names the document follows from the platform alone: the
document's own word for it is checked, never followed.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final, NewType

from ccinit.errors import FormatError
from ccinit.values import frozen

ReportData = NewType("ReportData", bytes)


NO_REPORT_DATA: Final = ReportData(bytes(64))
"""For a report that is asked for its launch fields and shown to nobody."""


class Tee(StrEnum):
    """Platforms by their RCAR name."""

    AZ_SNP_VTPM = "az-snp-vtpm"
    AZ_TDX_VTPM = "az-tdx-vtpm"
    CCA = "cca"
    SAMPLE = "sample"
    SNP = "snp"
    TDX = "tdx"
    TPM = "tpm"


class Binding(Enum):
    """How the initdata digest gets into a platform's evidence.

    A register is *extended* by the guest, once. A launch field was set by the host before the
    guest's first instruction; the guest *compares*, or it would run whatever the host made. The
    sample platform has neither: NOTHING binds its document, and it exists for tests only.
    """

    EXTENDED = auto()
    COMPARED = auto()
    NOTHING = auto()


@frozen
class InitdataBinding:
    """Where the digest of the initdata document is held, and by which algorithm.

    Attributes:
        algorithm: `sha256` or `sha384`.
        size_bytes: of the register or field; a shorter digest is padded with zeros.
    """

    binding: Binding
    algorithm: str
    size_bytes: int


@frozen
class _Row:
    """What one platform makes of digests.

    Attributes:
        kept: so many bytes of a report digest are carried,
        size: padded with zeros to so many.
        initdata: the place of its digest.
        needs_network: a part of the evidence comes from a service of the cloud.
    """

    kept: int
    size: int
    initdata: InitdataBinding
    needs_network: bool = False


_PCR_8 = InitdataBinding(binding=Binding.EXTENDED, algorithm="sha256", size_bytes=32)
_HOSTDATA = InitdataBinding(binding=Binding.COMPARED, algorithm="sha256", size_bytes=32)
_MRCONFIGID = InitdataBinding(binding=Binding.COMPARED, algorithm="sha384", size_bytes=48)
_PERSONALIZATION = InitdataBinding(binding=Binding.COMPARED, algorithm="sha384", size_bytes=64)

_NOWHERE = InitdataBinding(binding=Binding.NOTHING, algorithm="sha256", size_bytes=0)

_ROWS: Final[Mapping[Tee, _Row]] = {
    Tee.TPM: _Row(kept=32, size=32, initdata=_PCR_8),
    Tee.AZ_SNP_VTPM: _Row(kept=48, size=48, initdata=_PCR_8, needs_network=True),
    Tee.AZ_TDX_VTPM: _Row(kept=48, size=48, initdata=_PCR_8, needs_network=True),
    Tee.SNP: _Row(kept=48, size=64, initdata=_HOSTDATA),
    Tee.TDX: _Row(kept=48, size=64, initdata=_MRCONFIGID),
    Tee.CCA: _Row(kept=48, size=64, initdata=_PERSONALIZATION),
    Tee.SAMPLE: _Row(kept=48, size=48, initdata=_NOWHERE),
}


def report_data_for(tee: Tee, digest: bytes) -> ReportData:
    """Return what a handshake's 48-byte digest becomes in the report data of a platform.

    Raises:
        FormatError: `rcar.digest`, not 48 bytes.
    """
    if len(digest) != 48:
        raise FormatError("rcar.digest", f"{len(digest)} bytes, a report digest has 48")
    row = _ROWS[tee]
    return ReportData(digest[: row.kept].ljust(row.size, b"\0"))


def initdata_binding(tee: Tee) -> InitdataBinding:
    """Return where a platform holds the initdata digest."""
    return _ROWS[tee].initdata


def evidence_needs_network(tee: Tee) -> bool:
    """Return whether a platform can make evidence only where there is a network already."""
    return _ROWS[tee].needs_network
