"""What the owner demands of a platform itself: firmware, and what its host may do with a guest.

Part of the appraisal policy for evidence (RATS, RFC 9334): one TOML file for each platform. Without
it no evidence of that platform is accepted: only the owner can say how old its firmware may be.
TDX's file is described in `guest_owner.kbs.references.tdx_requirements`; this is SEV-SNP's:

    version = 1
    report_version = 3                # the oldest version of the report; 2 names no processor
    mitigations = 0                   # bits that must be set in both mitigation vectors
    csp_ids = ["CN=cc-us-east-2.amazonaws.com"]   # providers whose key (VLEK) may stand for a
                                      # chip's; without it none may
    revoked_chips = ["128 hex digits"]   # CHIP_ID of those that may not, whatever their firmware

    [[product]]                       # processors that may run the guest, and their oldest firmware
    name = "Milan"                    # or "Genoa", "Turin"; Turin has an `fmc`, too
    bootloader = 4
    tee = 0
    snp = 24
    microcode = 219

    [policy]                          # of the guest
    allow = ["smt"]                   # what the host may have left open: smt, cxl
    require = ["single-socket"]       # what it must have promised: single-socket, aes-256-xts,
                                      # rapl-off, ciphertext-hiding, page-swap-off

    [platform]
    require = ["alias-check"]         # what the processor must report: alias-check, tsme, ecc,
                                      # rapl-off, ciphertext-hiding, iommu-write-safe

    [id_block]                        # signed launches; without it there must be no ID block
    keys = ["HEX of SHA-384"]
    author_keys = []
    guest_svn = 0

The files of Azure's confidential VMs (`az-snp-vtpm`, `az-tdx-vtpm`) and of guests with an SVSM
(`svsm`) say in the same form what is demanded of the hardware. They also list the paravisors that
may stand between it and the guest; an SVSM is one, measured together with its firmware:

    paravisor = ["HEX"]               # launch measurements (SNP) or MRTD (TDX), 48 bytes each
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import ClassVar, TypeAlias, TypeVar

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.evidence.snp_report import (
    CHIP_ID_BYTES,
    MAX_VERSION,
    MEASUREMENT_BYTES,
    MIN_VERSION,
    PlatformBit,
    PolicyBit,
    TcbVersion,
)
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.tdx_requirements import TdxRequirements, read_tdx_requirements

B = TypeVar("B")

MAX_REQUIREMENTS_BYTES = 64 * 1024
KEY_DIGEST_BYTES = 48

PERMISSIONS: Mapping[str, PolicyBit] = {"smt": PolicyBit.SMT, "cxl": PolicyBit.CXL}
PROMISES: Mapping[str, PolicyBit] = {
    "single-socket": PolicyBit.SINGLE_SOCKET,
    "aes-256-xts": PolicyBit.MEM_AES_256_XTS,
    "rapl-off": PolicyBit.RAPL_OFF,
    "ciphertext-hiding": PolicyBit.CIPHERTEXT_HIDING,
    "page-swap-off": PolicyBit.PAGE_SWAP_OFF,
}
STATES: Mapping[str, PlatformBit] = {
    "tsme": PlatformBit.TSME,
    "ecc": PlatformBit.ECC,
    "rapl-off": PlatformBit.RAPL_OFF,
    "ciphertext-hiding": PlatformBit.CIPHERTEXT_HIDING,
    "alias-check": PlatformBit.ALIAS_CHECKED,
    "iommu-write-safe": PlatformBit.IOMMU_WRITE_SAFE,
}


class SnpProduct(StrEnum):
    """Processors with SEV-SNP, by the name in their keys' certificates."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdBlock:
    """Signed launches; no key means that none is accepted.

    Attributes:
        keys: SHA-384 of keys that may have signed the launch.
        author_keys: SHA-384 of keys that may have signed the signing key.
        guest_svn: the lowest that a signed launch may have.
    """

    keys: frozenset[bytes] = frozenset()
    author_keys: frozenset[bytes] = frozenset()
    guest_svn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpRequirements:
    """What is demanded of SEV-SNP.

    Attributes:
        floors: for each accepted product its oldest firmware.
        allowed: bits of the guest policy that may be set.
        promised: bits of the guest policy that must be set.
        states: bits of the platform's state that must be set.
        mitigations: bits of both mitigation vectors that must be set.
        revoked_chips: ids of processors, 64 bytes each, that may not run the guest.
        csp_ids: providers, as in the certificates of their keys (VLEK); none means chips only.
        id_block: which launches may be signed, and by whom.
    """

    tee: ClassVar[Tee] = Tee.SNP
    report_version: int
    floors: Mapping[SnpProduct, TcbVersion]
    allowed: PolicyBit
    promised: PolicyBit
    states: PlatformBit
    mitigations: int
    revoked_chips: frozenset[bytes]
    csp_ids: frozenset[str]
    id_block: IdBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class ParavisorRequirements:
    """What is demanded of a guest with a paravisor: an Azure VM, or a guest with an SVSM.

    Attributes:
        hardware: what is demanded of SEV-SNP or TDX below the paravisor.
        paravisors: measurements of those that may run; their vTPM is as good as they are.
    """

    tee: Tee
    hardware: SnpRequirements | TdxRequirements
    paravisors: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.paravisors:
            raise FormatError("requirements.paravisor", "name at least one")


Requirements: TypeAlias = SnpRequirements | TdxRequirements | ParavisorRequirements


def parse_requirements(data: bytes, platform: Tee) -> Requirements:
    """Read the requirements file of a platform.

    Raises:
        FormatError: with a reason below `requirements`.
    """
    if len(data) > MAX_REQUIREMENTS_BYTES:
        raise LimitExceededError("requirements.length", f"more than {MAX_REQUIREMENTS_BYTES} bytes")
    if platform not in READERS:
        raise FormatError("requirements.platform", f"nothing can be demanded of {platform}")
    with Fields(parse_toml(data, "requirements.toml"), "requirements") as fields:
        fields.integer("version", low=1, high=1)
        return READERS[platform](fields)


def _read_snp(fields: Fields) -> SnpRequirements:
    products = fields.tables("product", _read_product)
    floors = dict(products)
    if not floors:
        raise FormatError("requirements.product", "name at least one product")
    if len(floors) != len(products):  # a product listed twice: which floor would count?
        raise FormatError("requirements.product", "a product stands there twice")
    allowed, promised = fields.table("policy", _read_policy, default=(PolicyBit(0), PolicyBit(0)))
    launch = fields.table("id_block", _read_id_block, default=IdBlock())
    return SnpRequirements(
        report_version=fields.integer(
            "report_version", low=MIN_VERSION, high=MAX_VERSION, default=MIN_VERSION
        ),
        floors=floors,
        allowed=allowed,
        promised=promised,
        states=fields.table("platform", _read_platform, default=PlatformBit(0)),
        mitigations=fields.integer("mitigations", low=0, high=2**64 - 1, default=0),
        revoked_chips=frozenset(fields.hexadecimals("revoked_chips", size_bytes=CHIP_ID_BYTES)),
        csp_ids=frozenset(fields.texts("csp_ids")),
        id_block=launch,
    )


def _read_product(fields: Fields) -> tuple[SnpProduct, TcbVersion]:
    name = fields.choice("name", SnpProduct)
    parts = {
        part: fields.integer(part, low=0, high=255)
        for part in ("bootloader", "tee", "snp", "microcode")
    }
    fmc = fields.integer("fmc", low=0, high=255) if name is SnpProduct.TURIN else None
    return name, TcbVersion(fmc=fmc, **parts)


def _read_policy(fields: Fields) -> tuple[PolicyBit, PolicyBit]:
    allowed, promised = PolicyBit(0), PolicyBit(0)
    for name in fields.texts("allow"):
        allowed |= _known(name, PERMISSIONS, "requirements.policy.allow")
    for name in fields.texts("require"):
        promised |= _known(name, PROMISES, "requirements.policy.require")
    return allowed, promised


def _read_platform(fields: Fields) -> PlatformBit:
    states = PlatformBit(0)
    for name in fields.texts("require"):
        states |= _known(name, STATES, "requirements.platform.require")
    return states


def _known(name: str, table: Mapping[str, B], reason: str) -> B:
    if name not in table:
        raise FormatError(reason, f"expected one of {', '.join(table)}, found {name[:40]!r}")
    return table[name]


def _read_id_block(fields: Fields) -> IdBlock:
    keys, authors = (
        frozenset(fields.hexadecimals(key, size_bytes=KEY_DIGEST_BYTES))
        for key in ("keys", "author_keys")
    )
    guest_svn = fields.integer("guest_svn", low=0, high=2**32 - 1, default=0)
    return IdBlock(keys=keys, author_keys=authors, guest_svn=guest_svn)


def _read_paravisor(fields: Fields, tee: Tee) -> ParavisorRequirements:
    read_tdx = partial(read_tdx_requirements, below_paravisor=True)
    read = read_tdx if tee is Tee.AZ_TDX_VTPM else _read_snp
    return ParavisorRequirements(
        tee=tee,
        hardware=read(fields),
        paravisors=fields.hexadecimals("paravisor", size_bytes=MEASUREMENT_BYTES),
    )


READERS: Mapping[Tee, Callable[[Fields], Requirements]] = {
    Tee.SNP: _read_snp,
    Tee.TDX: read_tdx_requirements,
    Tee.AZ_SNP_VTPM: partial(_read_paravisor, tee=Tee.AZ_SNP_VTPM),
    Tee.AZ_TDX_VTPM: partial(_read_paravisor, tee=Tee.AZ_TDX_VTPM),
    Tee.SVSM: partial(_read_paravisor, tee=Tee.SVSM),
}
