"""The one ending: stop, undo, wipe, seal, offer, reset.

Every cause takes this way, an orderly stop included, so that the host cannot tell them apart by how
the machine goes down; a kernel panic looks the same (`reboot(RB_AUTOBOOT)` under a launcher that
does not restart). Each step is bounded, and a step that fails does not keep the next from running
(`Teardown`).
"""

from ccinit.agent.guest import EarlyGuest
from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init.sequence import PhaseError
from ccinit.kernel import power
from ccinit.kernel.event_loop import sleep

_OFFER_SECONDS = 2.0
_REPLY_SECONDS = 0.1  # the last replies' way: through our loop, the kernel, the host's device
_REBOOT_AGAIN_SECONDS = 1.0


async def end(guest: EarlyGuest, cause: PhaseError | None) -> None:
    """End the guest; returns only if the kernel will not reset.

    Args:
        guest: what to end.
        cause: the phase that failed, or None for an orderly stop.
    """
    if cause is not None:
        guest.state.fail(cause.code)
    if guest.state.phase < Phase.STOP:
        guest.state.enter(Phase.STOP)
    failures = await guest.teardown.run()
    if failures:
        guest.state.fail(Code.STOP_FORCED)
    # The report waits for the owner's KBS to have spoken; this the log may say before.
    guest.log.public_event(Phase.STOP, guest.state.code)
    await _offer_report(guest, _report(guest.state.code, cause, failures))
    guest.state.enter(Phase.OFF)
    await sleep(_REPLY_SECONDS)
    await reset()


async def reset() -> None:
    """Flush, then ask for a reset until it happens."""
    power.sync()
    while True:
        try:
            power.reboot()
        except CcinitError:
            await sleep(_REBOOT_AGAIN_SECONDS)


async def _offer_report(guest: EarlyGuest, report: bytes) -> None:
    """Seal the last words and give the host two seconds to take them.

    Always two: how long the guest takes to go must not depend on what there was to say.
    """
    guest.log.close(report)
    await sleep(_OFFER_SECONDS)


def _report(
    code: Code, cause: PhaseError | None, failures: tuple[tuple[str, CcinitError], ...]
) -> bytes:
    if cause is not None:
        lines = [f"{cause.phase.name} failed: {cause.error}"]
    elif code is Code.WORKLOAD_EXIT:
        lines = ["every main container has ended"]
    else:
        lines = ["orderly stop"]
    lines += [f"teardown of {name} failed: {error}" for name, error in failures]
    return "\n".join(lines).encode()
