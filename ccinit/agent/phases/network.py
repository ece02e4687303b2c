"""NET: wait for the host's network offer, validate it and apply it.

A refused offer does not end the boot: the host may send a better one until the phase's deadline.
"""

from ccinit.agent.guest import Guest
from ccinit.agent.processes.roles import Role
from ccinit.boot.directories import write_file
from ccinit.boot.network import verify_offer
from ccinit.boot.network_offer import NetworkPlan, NetworkReady
from ccinit.errors import FormatError, VerificationError

_SECONDS = 60.0
RESOLVER_FILE = "/run/ccinit/resolv.conf"


async def connect(guest: Guest) -> NetworkPlan:
    """Return the plan that is now in force.

    Raises:
        CcinitError: a valid offer could not be applied.
    """
    plan = await _wait_for_plan(guest)
    await guest.children.run(Role.NET, plan, NetworkReady, seconds=_SECONDS)
    write_file(RESOLVER_FILE, plan.resolver_file())
    return plan


async def _wait_for_plan(guest: Guest) -> NetworkPlan:
    while True:
        offer = await guest.service.next_offer()
        try:
            return verify_offer(offer)
        except (FormatError, VerificationError) as error:
            guest.event(f"network offer refused: {error}")
