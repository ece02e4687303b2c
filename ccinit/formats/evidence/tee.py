"""The platforms of the KBS protocol, and how each of them carries digests.

Names and report data are those of RCAR (Confidential Containers, `kbs_attestation_protocol.md`, and
the verifiers of its Attestation Service); its `initdata.md` says where a platform holds the
initdata digest. The platform alone determines which of the two hashes is used; what the document
says is checked, never followed.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final, NewType

from ccinit.errors import FormatError
from ccinit.values import frozen

ReportData = NewType("ReportData", bytes)


NO_REPORT_DATA: Final = ReportData(bytes(64))
"""For a report that is requested only for its launch fields, and not passed on."""


MAX_VERIFIERS_REQUEST_BYTES: Final = 48 * 1024
"""Of a request that comes as a handshake's nonce; 255 machines' keys fit."""


class Tee(StrEnum):
    """Platforms by their RCAR name."""

    AZ_SNP_VTPM = "az-snp-vtpm"
    AZ_TDX_VTPM = "az-tdx-vtpm"
    CCA = "cca"
    SAMPLE = "sample"
    SE = "se"
    SEV = "sev"  # SEV-ES, too; from old versions of RCAR, since it has no evidence
    SNP = "snp"
    SVSM = "svsm"  # ours: no KBS protocol has a name for it
    TDX = "tdx"
    TPM = "tpm"


class Binding(Enum):
    """How the initdata digest gets into a platform's evidence.

    The guest *extends* a register, once. The host set a launch field (or the owner a secret of the
    launch) before the guest's first instruction; the guest *compares* it, or it would run whatever
    document the host made. Where there is neither, the measured guest *states* the digest each
    time, in what is signed along with its measurement. The sample platform can do none of these:
    NOTHING binds its document, and it exists for tests only.
    """

    EXTENDED = auto()
    COMPARED = auto()
    STATED = auto()
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
    """How one platform carries digests.

    Attributes:
        kept: how many bytes of a report digest are carried.
        size: the length to which zeros pad them.
        initdata: where the document's digest is held.
        hash_name: the hash of a handshake's digest.
        needs_network: a part of the evidence comes from a service of the cloud.
        needs_request: evidence answers a verifier's own request, which is a handshake's nonce.
        is_judged_at_launch: there is no evidence; the owner judged the launch and gave it secrets.
    """

    kept: int
    size: int
    initdata: InitdataBinding
    hash_name: str = "sha384"
    needs_network: bool = False
    needs_request: bool = False
    is_judged_at_launch: bool = False


_PCR_8 = InitdataBinding(binding=Binding.EXTENDED, algorithm="sha256", size_bytes=32)
_HOSTDATA = InitdataBinding(binding=Binding.COMPARED, algorithm="sha256", size_bytes=32)
_MRCONFIGID = InitdataBinding(binding=Binding.COMPARED, algorithm="sha384", size_bytes=48)
_PERSONALIZATION = InitdataBinding(binding=Binding.COMPARED, algorithm="sha384", size_bytes=64)
_USER_DATA = InitdataBinding(binding=Binding.STATED, algorithm="sha384", size_bytes=48)
_LAUNCH_SECRET = InitdataBinding(binding=Binding.COMPARED, algorithm="sha256", size_bytes=32)

_NOWHERE = InitdataBinding(binding=Binding.NOTHING, algorithm="sha256", size_bytes=0)

_DIGEST_BYTES: Final = {"sha384": 48, "sha512": 64}

_ROWS: Final[Mapping[Tee, _Row]] = {
    Tee.TPM: _Row(kept=32, size=32, initdata=_PCR_8),
    Tee.AZ_SNP_VTPM: _Row(kept=48, size=48, initdata=_PCR_8, needs_network=True),
    Tee.AZ_TDX_VTPM: _Row(kept=48, size=48, initdata=_PCR_8, needs_network=True),
    Tee.SVSM: _Row(kept=48, size=64, initdata=_PCR_8, needs_request=True),
    Tee.SNP: _Row(kept=48, size=64, initdata=_HOSTDATA),
    Tee.TDX: _Row(kept=48, size=64, initdata=_MRCONFIGID),
    Tee.CCA: _Row(kept=48, size=64, initdata=_PERSONALIZATION),
    Tee.SE: _Row(kept=64, size=64, initdata=_USER_DATA, hash_name="sha512", needs_request=True),
    Tee.SEV: _Row(kept=48, size=64, initdata=_LAUNCH_SECRET, is_judged_at_launch=True),
    Tee.SAMPLE: _Row(kept=48, size=48, initdata=_NOWHERE),
}


def report_data_for(tee: Tee, digest: bytes) -> ReportData:
    """Return the report data that carry a handshake's digest, made by the platform's hash.

    Raises:
        FormatError: `rcar.digest`, it is of another hash.
    """
    row = _ROWS[tee]
    if len(digest) != _DIGEST_BYTES[row.hash_name]:
        raise FormatError("rcar.digest", f"expected a {row.hash_name}, found {len(digest)} bytes")
    return ReportData(digest[: row.kept].ljust(row.size, b"\0"))


def initdata_binding(tee: Tee) -> InitdataBinding:
    """Return where a platform holds the initdata digest."""
    return _ROWS[tee].initdata


def report_hash(tee: Tee) -> str:
    """Return the name of the hash of a handshake's digests on a platform."""
    return _ROWS[tee].hash_name


def evidence_needs_request(tee: Tee) -> bool:
    """Return whether a platform makes evidence only in answer to a verifier's request."""
    return _ROWS[tee].needs_request


def is_judged_at_launch(tee: Tee) -> bool:
    """Return whether a platform has secrets that the owner injected in place of evidence."""
    return _ROWS[tee].is_judged_at_launch


def evidence_needs_network(tee: Tee) -> bool:
    """Return whether a platform needs a network to make evidence."""
    return _ROWS[tee].needs_network
