"""The layer between the hardware and the guest: Azure's paravisor, or an SVSM.

It owns the guest's TPM, so a quote is worth as much as that layer is. This is the step that the
verifiers of both share, with the claims `paravisor.requirements` and `paravisor.measurement`.
"""

from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.appraisal import NOTHING, ClaimList, list_known
from guest_owner.kbs.references.requirements import ParavisorRequirements, Requirements


def check_paravisor(
    tee: Tee, measurement: bytes, requirements: tuple[Requirements, ...], claims: ClaimList
) -> ParavisorRequirements | None:
    """Compare a paravisor with the registered ones; return what else is demanded.

    Args:
        tee: the platform that it makes.
        measurement: 48 bytes, by the hardware.
        requirements: everything that the owner demands.
        claims: gets the two claims.

    Returns:
        None if the owner demands nothing of this platform; then a claim does not hold.
    """
    demanded = next(
        (
            known
            for known in requirements
            if isinstance(known, ParavisorRequirements) and known.tee is tee
        ),
        None,
    )
    if demanded is None:
        claims.compare("paravisor.requirements", "registered requirements", NOTHING, holds=False)
        return None
    claims.compare(
        "paravisor.measurement",
        list_known(tuple(known.hex() for known in demanded.paravisors)),
        measurement.hex(),
        holds=measurement in demanded.paravisors,
    )
    return demanded
