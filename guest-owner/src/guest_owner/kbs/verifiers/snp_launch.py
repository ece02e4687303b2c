"""What a signed launch of SEV-SNP says about itself, compared with the owner's demands.

The part of step 9.7 of `snp_platform` that is the same for a report and for a token about one. None
stands for what a token does not show, and fails every comparison.
"""

from guest_owner.kbs.appraisal import ClaimList, list_known
from guest_owner.kbs.references.requirements import IdBlock
from guest_owner.kbs.shown import show


def check_id_key(digest: bytes | None, block: IdBlock, claims: ClaimList) -> bool:
    """Compare `snp.id_key`, zeros of an unsigned launch; return whether the launch is signed."""
    signed = digest is not None and any(digest)
    claims.compare(
        "snp.id_key",
        "none, or " + list_known(tuple(known.hex() for known in sorted(block.keys))),
        show(digest),
        holds=digest is not None and (not signed or digest in block.keys),
    )
    return signed


def check_signed_values(
    block: IdBlock,
    claims: ClaimList,
    *,
    signed: bool,
    family_id: bytes | None,
    image_id: bytes | None,
    guest_svn: int | None,
) -> None:
    """Compare the values that only the signer of a launch can set, as `check_id_key` found."""
    for name, value in (("family_id", family_id), ("image_id", image_id)):
        claims.compare(
            f"snp.{name}",
            "of a signed launch" if signed else "zero",
            show(value),
            holds=value is not None and (signed or not any(value)),
        )
    least = block.guest_svn
    claims.compare(
        "snp.guest_svn",
        f"at least {least}" if signed else "0",
        show(guest_svn),
        holds=guest_svn is not None and (guest_svn >= least if signed else guest_svn == 0),
    )
