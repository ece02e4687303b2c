"""Verifiers whose tokens the owner accepts, and what those tokens must say.

    version = 1
    service = "azure-attestation"         # or "intel-trust-authority": the form of its tokens
    issuer = "https://shop.eus.attest.azure.net"   # `iss` of its tokens, exactly
    algorithms = ["RS256"]                # or PS384; by these and no others it signs
    audience = "kbs.example"              # `aud`, exactly; without it a token must have none
    policies = ["B56nbp5slhw…"]           # of the service: its hash (Azure) or ids (Intel); all of
                                          # them must have been applied
    max_age_seconds = 300                 # since a token was issued

    [snp]                                 # a platform without a table is not taken from it
    bootloader = 4                        # oldest firmware
    tee = 0
    snp = 24
    microcode = 219
    allow = ["smt"]                       # what the host may have left open
    id_keys = ["HEX of SHA-384"]          # signed launches; without it there must be no ID block
    author_keys = []
    guest_svn = 0

    [tdx]
    xfam = "00000000000602e7"             # of the domain, exactly
    td_attributes = "0000000010000000"
    mrseam = ["96 hex digits"]            # TDX modules that may run it
    tee_tcb_svn = "05010200000000000000000000000000"   # lowest versions of the module
    tcb_status = ["UpToDate"]             # of the machine, in Intel's words

Only what a token shows can be demanded here. On SNP it shows neither whether CXL was open, nor
mitigations, nor the state of the platform; on TDX, apart from `tcb_status`, neither the machine nor
the quoting enclave; and never an event log. The keys by which the issuer signs are registered with
it (`key_set` beside this); nothing is ever fetched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_toml import parse_toml
from ccinit.formats.evidence.snp_report import TcbVersion
from ccinit.formats.evidence.tdx_report import MEASUREMENT_BYTES
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.passports.key_set import Algorithm, IssuerKey
from guest_owner.kbs.references.requirements import KEY_DIGEST_BYTES, IdBlock
from guest_owner.kbs.references.tdx_requirements import COMPONENTS, check_attributes
from guest_owner.kbs.token import ISSUER as OURSELVES

MAX_ISSUER_BYTES = 64 * 1024
DEFAULT_AGE_SECONDS = 300
_MAX_AGE_SECONDS = 24 * 3600
_MAX_NAME_BYTES = 1024
_UP_TO_DATE = "UpToDate"
_PERMISSIONS = frozenset(("smt",))


class Service(StrEnum):
    """Attestation services, by the form of their tokens."""

    AZURE = "azure-attestation"
    INTEL = "intel-trust-authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpDemands:
    """What a token has to say of SEV-SNP.

    Attributes:
        floor: the oldest firmware, of a processor without `fmc`.
        smt_allowed: whether the host may have left SMT open.
        id_block: which launches may be signed, and by whom.
    """

    floor: TcbVersion
    smt_allowed: bool
    id_block: IdBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxDemands:
    """What a token has to say of TDX.

    Attributes:
        xfam, td_attributes: of the domain, exactly.
        mrseam: TDX modules, 48 bytes each.
        tee_tcb_svn: lowest versions of the module, 16 components.
        tcb_status: accepted states of the machine, in Intel's words.
    """

    xfam: int
    td_attributes: int
    mrseam: tuple[bytes, ...]
    tee_tcb_svn: bytes
    tcb_status: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.mrseam:
            raise FormatError("issuer.tdx.mrseam", "name at least one TDX module")
        check_attributes(self.td_attributes, "issuer.tdx.td_attributes")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerTerms:
    """The file's content: who issues, in which form, and what is demanded; without keys.

    Attributes:
        platforms: those accepted from this issuer, with what is demanded of each.
    """

    service: Service
    issuer: str
    algorithms: frozenset[Algorithm]
    audience: str | None
    policies: frozenset[str]
    max_age_seconds: int
    platforms: Mapping[Tee, SnpDemands | TdxDemands]

    def __post_init__(self) -> None:
        if self.issuer == OURSELVES:
            raise FormatError("issuer.issuer", "that is this KBS itself")
        if not self.algorithms:
            raise FormatError("issuer.algorithms", "name at least one")
        if not self.platforms:
            raise FormatError("issuer.platforms", "add a table for at least one: snp, tdx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A registered issuer: its terms and the keys by which it signs."""

    name: str
    terms: IssuerTerms
    keys: tuple[IssuerKey, ...]


def parse_issuer(data: bytes) -> IssuerTerms:
    """Read an issuer's file.

    Raises:
        FormatError: with a reason below `issuer`.
    """
    if len(data) > MAX_ISSUER_BYTES:
        raise LimitExceededError("issuer.length", f"more than {MAX_ISSUER_BYTES} bytes")
    with Fields(parse_toml(data, "issuer.toml"), "issuer") as fields:
        fields.integer("version", low=1, high=1)
        return IssuerTerms(
            service=fields.choice("service", Service),
            issuer=fields.text("issuer", max_bytes=_MAX_NAME_BYTES),
            algorithms=frozenset(fields.choices("algorithms", Algorithm)),
            audience=fields.optional_text("audience", max_bytes=_MAX_NAME_BYTES),
            policies=frozenset(fields.texts("policies")),
            max_age_seconds=fields.integer(
                "max_age_seconds", low=1, high=_MAX_AGE_SECONDS, default=DEFAULT_AGE_SECONDS
            ),
            platforms=_read_platforms(fields),
        )


def _read_platforms(fields: Fields) -> Mapping[Tee, SnpDemands | TdxDemands]:
    platforms: dict[Tee, SnpDemands | TdxDemands] = {}
    if fields.has("snp"):
        platforms[Tee.SNP] = fields.table("snp", _read_snp)
    if fields.has("tdx"):
        platforms[Tee.TDX] = fields.table("tdx", _read_tdx)
    return platforms


def _read_snp(fields: Fields) -> SnpDemands:
    parts = {
        part: fields.integer(part, low=0, high=255)
        for part in ("bootloader", "tee", "snp", "microcode")
    }
    allowed = frozenset(fields.texts("allow"))
    if not allowed <= _PERMISSIONS:
        raise FormatError("issuer.snp.allow", "only smt: a token does not show anything else")
    keys, authors = (
        frozenset(fields.hexadecimals(key, size_bytes=KEY_DIGEST_BYTES))
        for key in ("id_keys", "author_keys")
    )
    guest_svn = fields.integer("guest_svn", low=0, high=2**32 - 1, default=0)
    return SnpDemands(
        floor=TcbVersion(fmc=None, **parts),
        smt_allowed="smt" in allowed,
        id_block=IdBlock(keys=keys, author_keys=authors, guest_svn=guest_svn),
    )


def _read_tdx(fields: Fields) -> TdxDemands:
    return TdxDemands(
        xfam=int.from_bytes(fields.hexadecimal("xfam", size_bytes=8), "big"),
        td_attributes=int.from_bytes(fields.hexadecimal("td_attributes", size_bytes=8), "big"),
        mrseam=fields.hexadecimals("mrseam", size_bytes=MEASUREMENT_BYTES),
        tee_tcb_svn=fields.hexadecimal("tee_tcb_svn", size_bytes=COMPONENTS),
        tcb_status=fields.texts("tcb_status") or (_UP_TO_DATE,),
    )
