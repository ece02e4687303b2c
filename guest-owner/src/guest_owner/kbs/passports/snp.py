"""A token about SEV-SNP against registrations and the owner's demands: step 10 of `judge`.

The names are those of `guest_owner.kbs.verifiers.snp` and `snp_platform`, where they are explained:
`snp.measurement`, `initdata.digest`, `snp.policy.debug`, `snp.policy.migrate_ma`,
`snp.policy.allowed`, `snp.vmpl`, `snp.tcb.reported`, `snp.id_key`, `snp.author_key`,
`snp.family_id`, `snp.image_id`, `snp.guest_svn`. A value that the token does not show fails.
"""

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import ClaimList, list_known
from guest_owner.kbs.passports.issuer import SnpDemands
from guest_owner.kbs.passports.statement import SnpStatement
from guest_owner.kbs.references.requirements import IdBlock
from guest_owner.kbs.references.values import References, ReferenceSet, RegisteredInitdata
from guest_owner.kbs.shown import show
from guest_owner.kbs.verifiers.document import check_document
from guest_owner.kbs.verifiers.snp import check_measurement
from guest_owner.kbs.verifiers.snp_launch import check_id_key, check_signed_values


def judge_snp(
    about: SnpStatement, demands: SnpDemands, references: References, claims: ClaimList
) -> tuple[ReferenceSet | None, RegisteredInitdata | None]:
    """Make every comparison; return the image and the document, as far as they are registered."""
    reference = check_measurement(about.measurement, references.sets, claims)
    initdata = check_document(Tee.SNP, about.host_data, references.initdata, claims)
    for name, value in (("debug", about.debug), ("migrate_ma", about.migration)):
        claims.compare(f"snp.policy.{name}", "off", show(value), holds=value is False)
    claims.compare(
        "snp.policy.allowed",
        "smt on or off" if demands.smt_allowed else "smt off",
        f"smt {show(about.smt)}",
        holds=about.smt is False or (demands.smt_allowed and about.smt is True),
    )
    claims.compare("snp.vmpl", "0", show(about.vmpl), holds=about.vmpl == 0)
    claims.compare(
        "snp.tcb.reported",
        f"at least {demands.floor}",
        show(None if about.tcb is None else str(about.tcb)),
        holds=about.tcb is not None and about.tcb.at_least(demands.floor),
    )
    _check_launch(about, demands.id_block, claims)
    return reference, initdata


def _check_launch(about: SnpStatement, block: IdBlock, claims: ClaimList) -> None:
    """Check who signed the launch; an unsigned launch must say nothing about itself."""
    signed = check_id_key(about.id_key_digest, block, claims)
    author = about.author_key_digest
    claims.compare(
        "snp.author_key",
        "none, or " + list_known(tuple(known.hex() for known in sorted(block.author_keys))),
        show(author),
        holds=author is not None and (not any(author) or author in block.author_keys),
    )
    check_signed_values(
        block,
        claims,
        signed=signed,
        family_id=about.family_id,
        image_id=about.image_id,
        guest_svn=about.guest_svn,
    )
