"""What the owner demands of a platform with TDX; numbers of bytes in hex, most significant first.

    version = 1
    xfam = "00000000000602e7"             # extended features of the domain, exactly
    td_attributes = "0000000010000000"    # of the domain, exactly; never debuggable or migratable
    mrseam = ["96 hex digits"]            # TDX modules that may run it

    [tcb]                                 # machines, and the lowest versions
    fmspc = ["00806f050000"]
    revoked_ppids = ["32 hex digits"]     # machines that may not, whatever their versions
    tee_tcb_svn = "05010200000000000000000000000000"
    cpu_svn = "07070202030100030000000000000000"
    pce_svn = 13
    qe_mrsigner = "64 hex digits"
    qe_isv_svn = 4

The versions are those of Intel's TCB Info and QE Identity for that FMSPC; a newer advisory is
answered by registering higher ones. Azure's domains have no attribute set at all.
"""

from dataclasses import dataclass
from typing import ClassVar

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.evidence.tdx_report import MEASUREMENT_BYTES
from ccinit.formats.evidence.tee import Tee

FMSPC_BYTES = 6
PPID_BYTES = 16
COMPONENTS = 16

_MAX_SVN = 0xFFFF
# ATTRIBUTES bits 0 to 7 mark a domain that others can look into, DEBUG among them. Without
# SEPT_VE_DISABLE the host can inject exceptions on private memory; if there is a paravisor, it
# takes them. A MIGRATABLE domain's memory is open to its migration domain, which only quotes of
# version 5 name, and no token.
UNDER_DEBUG = 0xFF
SEPT_VE_DISABLE = 1 << 28
MIGRATABLE = 1 << 29


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxTcb:
    """Which machines are good enough: numbers are minimum versions, lists are allow-lists.

    Attributes:
        fmspc: processor families and platforms, 6 bytes each.
        revoked_ppids: machines that are excluded, by the id in their PCK certificates, 16 bytes.
        tee_tcb_svn: of the TDX module, 16 components.
        cpu_svn: of microcode and its like, 16 components.
        pce_svn: of the provisioning enclave.
        qe_mrsigner: of the quoting enclave, exactly.
        qe_isv_svn: of the quoting enclave.
    """

    fmspc: tuple[bytes, ...]
    tee_tcb_svn: bytes
    cpu_svn: bytes
    pce_svn: int
    qe_mrsigner: bytes
    qe_isv_svn: int
    revoked_ppids: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if not self.fmspc:
            raise FormatError("requirements.tcb.fmspc", "name at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxRequirements:
    """What is demanded of TDX.

    Attributes:
        xfam, td_attributes: of the domain, exactly.
        mrseam: TDX modules, 48 bytes each.
        below_paravisor: whether the domain is a registered paravisor's and not the guest's.
    """

    tee: ClassVar[Tee] = Tee.TDX
    xfam: int
    td_attributes: int
    mrseam: tuple[bytes, ...]
    tcb: TdxTcb
    below_paravisor: bool = False

    def __post_init__(self) -> None:
        if not self.mrseam:
            raise FormatError("requirements.mrseam", "name at least one TDX module")
        check_attributes(
            self.td_attributes,
            "requirements.td_attributes",
            below_paravisor=self.below_paravisor,
        )


def check_attributes(td_attributes: int, reason: str, *, below_paravisor: bool = False) -> None:
    """Check that these attributes let nobody look into a domain or disturb it.

    Raises:
        FormatError: with `reason`.
    """
    if td_attributes & (UNDER_DEBUG | MIGRATABLE):
        raise FormatError(reason, "no bit below 8 may be set, nor MIGRATABLE (bit 29)")
    if not (below_paravisor or td_attributes & SEPT_VE_DISABLE):
        raise FormatError(reason, "SEPT_VE_DISABLE (bit 28) must be set")


def read_tdx_requirements(fields: Fields, *, below_paravisor: bool = False) -> TdxRequirements:
    """Read the members after `version`."""
    return TdxRequirements(
        xfam=int.from_bytes(fields.hexadecimal("xfam", size_bytes=8), "big"),
        td_attributes=int.from_bytes(fields.hexadecimal("td_attributes", size_bytes=8), "big"),
        mrseam=fields.hexadecimals("mrseam", size_bytes=MEASUREMENT_BYTES),
        tcb=fields.table("tcb", _read_tcb),
        below_paravisor=below_paravisor,
    )


def _read_tcb(fields: Fields) -> TdxTcb:
    return TdxTcb(
        fmspc=fields.hexadecimals("fmspc", size_bytes=FMSPC_BYTES),
        tee_tcb_svn=fields.hexadecimal("tee_tcb_svn", size_bytes=COMPONENTS),
        cpu_svn=fields.hexadecimal("cpu_svn", size_bytes=COMPONENTS),
        pce_svn=fields.integer("pce_svn", low=0, high=_MAX_SVN),
        qe_mrsigner=fields.hexadecimal("qe_mrsigner", size_bytes=32),
        qe_isv_svn=fields.integer("qe_isv_svn", low=0, high=_MAX_SVN),
        revoked_ppids=frozenset(fields.hexadecimals("revoked_ppids", size_bytes=PPID_BYTES)),
    )
