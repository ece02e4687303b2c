"""What an owner demands of SEV-SNP itself, compared with a report: step 9 of `snp` beside this.

9.1  Requirements are registered, and name the processor; and the provider, if the key is a
     provider's and not the chip's [`snp.requirements`, `snp.product`, `snp.csp_id`]. The chip is
     not one that the owner revoked [`snp.revoked`]; hosts with a provider's key may hide which.
9.2  The report is new enough [`snp.version`].
9.3  The guest policy forbids debugging and migration, leaves open only what may be left open,
     promises what it must, has no unknown bit, and asks for no newer firmware than there is
     [`snp.policy.debug`, `snp.policy.migrate_ma`, `snp.policy.allowed`, `snp.policy.promised`,
     `snp.policy.reserved`, `snp.policy.abi`].
9.4  The platform's state is what it must be, and shows nothing that the policy forbids
     [`snp.platform.states`, `snp.platform.smt`, `snp.platform.reserved`].
9.5  Firmware: reported, committed, current and launch version are at least the floor, and in
     their order [`snp.tcb.reported`, `snp.tcb.committed`, `snp.tcb.current`,
     `snp.tcb.launch`, `snp.firmware`].
9.6  Mitigations are in place [`snp.mitigations.launch`, `snp.mitigations.current`].
9.7  A signed launch is signed by a registered key; an unsigned one must say nothing about itself
     [`snp.id_key`, `snp.author_key`, `snp.family_id`, `snp.image_id`, `snp.guest_svn`].
9.8  No migration agent belongs to the guest [`snp.report_id_ma`].
"""

from ccinit.formats.evidence.snp import CertType
from ccinit.formats.evidence.snp_report import KeyBit, PlatformBit, PolicyBit, SnpReport
from guest_owner.kbs.appraisal import NOTHING, ClaimList, list_known
from guest_owner.kbs.references.requirements import (
    PERMISSIONS,
    IdBlock,
    Requirements,
    SnpRequirements,
)
from guest_owner.kbs.verifiers.snp_chain import EndorsementKey
from guest_owner.kbs.verifiers.snp_launch import check_id_key, check_signed_values

_ABI_MASK = 0xFFFF
_KNOWN_POLICY = sum(PolicyBit)
_KNOWN_STATES = sum(PlatformBit)
_PERMITTING = sum(PERMISSIONS.values())
# What firmware writes where there is no migration agent.
_NO_AGENT = (b"\xff" * 32, bytes(32))


def check_platform(
    report: SnpReport,
    key: EndorsementKey | None,
    requirements: tuple[Requirements, ...],
    claims: ClaimList,
) -> None:
    """Make step 9; `key` is the one that signed the report, None if there is no such key."""
    _check_policy(report, claims)
    _check_order(report, claims)
    _check_agent(report, claims)
    demanded = next((known for known in requirements if isinstance(known, SnpRequirements)), None)
    if demanded is None:
        claims.compare("snp.requirements", "registered requirements", NOTHING, holds=False)
        return
    # Step 9.2
    claims.compare(
        "snp.version",
        f"{demanded.report_version} or later",
        str(report.version),
        holds=report.version >= demanded.report_version,
    )
    _check_machine(report, key, demanded, claims)
    _check_bits(report, demanded, claims)
    _check_floors(report, key, demanded, claims)
    _check_mitigations(report, demanded.mitigations, claims)
    _check_id_block(report, demanded.id_block, claims)


def _check_policy(report: SnpReport, claims: ClaimList) -> None:
    # Steps 9.3 and 9.4, as far as they are the same for every owner.
    for name, bit in (("debug", PolicyBit.DEBUG), ("migrate_ma", PolicyBit.MIGRATE_MA)):
        claims.compare(
            f"snp.policy.{name}", "off", _switch(report.policy & bit), holds=not report.policy & bit
        )
    unknown = report.policy & ~_KNOWN_POLICY & ~_ABI_MASK
    missing = PolicyBit.MUST_BE_ONE & ~report.policy
    claims.compare(
        "snp.policy.reserved",
        "bit 17 one, unknown bits zero",
        f"{report.policy:#x}",
        holds=not unknown and not missing,
    )
    least = (report.policy >> 8 & 0xFF, report.policy & 0xFF)
    claims.compare(
        "snp.policy.abi",
        f"at most {report.current}",
        f"{least[0]}.{least[1]}",
        holds=least <= (report.current.major, report.current.minor),
    )
    claims.compare(
        "snp.platform.reserved",
        "unknown bits zero",
        f"{report.plat_info:#x}",
        holds=not report.plat_info & ~_KNOWN_STATES,
    )
    forbidden = report.plat_info & PlatformBit.SMT and not report.policy & PolicyBit.SMT
    claims.compare(
        "snp.platform.smt",
        "off unless the policy allows it",
        _switch(report.plat_info & PlatformBit.SMT),
        holds=not forbidden,
    )


def _check_order(report: SnpReport, claims: ClaimList) -> None:
    # Step 9.5; firmware reports no version above the committed, nor commits above the current.
    claims.compare(
        "snp.tcb.committed",
        f"at least {report.reported_tcb}",
        str(report.committed_tcb),
        holds=report.committed_tcb.at_least(report.reported_tcb),
    )
    claims.compare(
        "snp.tcb.current",
        f"at least {report.committed_tcb}",
        str(report.current_tcb),
        holds=report.current_tcb.at_least(report.committed_tcb),
    )
    claims.compare(
        "snp.firmware",
        f"at least {report.committed}",
        str(report.current),
        holds=report.current.at_least(report.committed),
    )


def _check_agent(report: SnpReport, claims: ClaimList) -> None:
    # Step 9.8
    claims.compare(
        "snp.report_id_ma",
        "none",
        report.report_id_ma.hex(),
        holds=report.report_id_ma in _NO_AGENT,
    )


def _check_machine(
    report: SnpReport, key: EndorsementKey | None, demanded: SnpRequirements, claims: ClaimList
) -> None:
    # Step 9.1; this finds the processor together with its floor.
    claims.compare(
        "snp.revoked",
        f"none of {len(demanded.revoked_chips)} revoked chips",
        report.chip_id.hex(),
        holds=report.chip_id not in demanded.revoked_chips,
    )
    if key is None or key.kind is not CertType.VLEK:
        return
    claims.compare(
        "snp.csp_id",
        list_known(tuple(sorted(demanded.csp_ids))) if demanded.csp_ids else "a key of the chip",
        key.csp_id,
        holds=key.csp_id in demanded.csp_ids,
    )


def _check_bits(report: SnpReport, demanded: SnpRequirements, claims: ClaimList) -> None:
    # Steps 9.3 and 9.4
    open_bits = report.policy & _PERMITTING & ~demanded.allowed
    claims.compare(
        "snp.policy.allowed",
        f"at most {_names(demanded.allowed)}",
        _names(PolicyBit(report.policy & _PERMITTING)),
        holds=not open_bits,
    )
    claims.compare(
        "snp.policy.promised",
        _names(demanded.promised),
        f"{report.policy:#x}",
        holds=report.policy & demanded.promised == demanded.promised,
    )
    claims.compare(
        "snp.platform.states",
        _names(demanded.states),
        f"{report.plat_info:#x}",
        holds=report.plat_info & demanded.states == demanded.states,
    )


def _check_floors(
    report: SnpReport, key: EndorsementKey | None, demanded: SnpRequirements, claims: ClaimList
) -> None:
    # Steps 9.1 and 9.5
    floor = None if key is None else demanded.floors.get(key.product)
    claims.compare(
        "snp.product",
        list_known(tuple(known.value for known in demanded.floors)),
        "unknown" if key is None else key.product.value,
        holds=floor is not None,
    )
    if floor is None:
        return
    for name, tcb in (("reported", report.reported_tcb), ("launch", report.launch_tcb)):
        claims.compare(f"snp.tcb.{name}", f"at least {floor}", str(tcb), holds=tcb.at_least(floor))


def _check_mitigations(report: SnpReport, demanded: int, claims: ClaimList) -> None:
    # Step 9.6
    for name, vector in (
        ("launch", report.launch_mit_vector),
        ("current", report.current_mit_vector),
    ):
        claims.compare(
            f"snp.mitigations.{name}",
            f"{demanded:#x}",
            "not reported" if vector is None else f"{vector:#x}",
            holds=(vector or 0) & demanded == demanded,
        )


def _check_id_block(report: SnpReport, block: IdBlock, claims: ClaimList) -> None:
    # Step 9.7
    signed = check_id_key(report.id_key_digest, block, claims)
    has_author, author = bool(report.key_info & KeyBit.AUTHOR_KEY), report.author_key_digest
    unannounced = f"{author.hex()}, which the report does not announce" if any(author) else "none"
    claims.compare(
        "snp.author_key",
        "none, or " + list_known(tuple(digest.hex() for digest in sorted(block.author_keys))),
        author.hex() if has_author else unannounced,
        holds=author in block.author_keys if has_author else not any(author),
    )
    check_signed_values(
        block,
        claims,
        signed=signed,
        family_id=report.family_id,
        image_id=report.image_id,
        guest_svn=report.guest_svn,
    )


def _names(bits: PolicyBit | PlatformBit) -> str:
    return ", ".join(bit.name.lower() for bit in bits if bit.name) or "nothing"


def _switch(bit: int) -> str:
    return "on" if bit else "off"
