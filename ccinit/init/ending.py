"""The one ending: stop, undo, wipe, seal, offer, reset.

Every cause ends this way, an orderly stop included, so the host cannot tell causes apart by how the
machine goes down. A kernel panic looks the same, too (`reboot(RB_AUTOBOOT)` under a launcher that
does not restart). Each step has a deadline, and a failed step does not keep the next from running
(`Teardown`).
"""

from ccinit.agent.guest import EarlyGuest
from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.init.sequence import PhaseError
from ccinit.kernel import power
from ccinit.kernel.event_loop import sleep

_OFFER_SECONDS = 2.0
_REPLY_SECONDS = 0.1  # for the last replies to pass our loop, the kernel and the host's device
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
    # The report needs the owner's KBS to have answered first; this event does not.
    guest.log.public_event(Phase.STOP, guest.state.code)
    await _offer_report(guest, _report(guest.state.code, cause, failures))
    guest.state.enter(Phase.OFF)
    await sleep(_REPLY_SECONDS)
    await reset()


async def reset() -> None:
    """Flush file systems, then request a reset until it happens."""
    power.sync()
    while True:
        try:
            power.reboot()
        except CcinitError:
            await sleep(_REBOOT_AGAIN_SECONDS)


async def _offer_report(guest: EarlyGuest, report: bytes) -> None:
    """Seal the final report and give the host two seconds to collect it.

    Always two: the time a guest takes to end must not depend on what it had to report.
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
