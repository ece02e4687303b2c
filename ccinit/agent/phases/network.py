"""NET: wait for the host's offer, validate it, apply it.

A refused offer does not end the boot: the host may send a better one until the phase's deadline.
"""

import os

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages import NetworkReady
from ccinit.agent.processes.roles import Role
from ccinit.boot.network import verify_offer
from ccinit.boot.network_offer import NetworkPlan
from ccinit.errors import FormatError, VerificationError
from ccinit.kernel.libc import kernel_error

_SECONDS = 60.0
RESOLVER_FILE = "/run/ccinit/resolv.conf"


async def connect(guest: Guest) -> NetworkPlan:
    """Return the plan that is now in force.

    Raises:
        CcinitError: an offer was good and could not be applied.
    """
    plan = await _wait_for_plan(guest)
    await guest.children.run(Role.NET, plan, NetworkReady, seconds=_SECONDS)
    write_file(RESOLVER_FILE, plan.resolver_file())
    return plan


async def _wait_for_plan(guest: Guest) -> NetworkPlan:
    while True:
        await guest.service.offered.wait()
        guest.service.offered.clear()
        offer, guest.service.offer = guest.service.offer, None
        if offer is None:
            continue
        try:
            return verify_offer(offer)
        except (FormatError, VerificationError) as error:
            guest.event(f"network offer refused: {error}")


def write_file(path: str, text: str) -> None:
    """Write a small file that everyone in the guest may read.

    Raises:
        KernelError: `kernel.write`.
    """
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o644)
    except OSError as error:
        raise kernel_error(error, "write", path) from error
