"""A phase: its number, the code of its failures, its deadline, and its place in the log.

The table is the boot; `phases.py` gives each row its function. A phase's deadline only ends a hang,
so it is generous: ten times what a slow machine needs, and more than the sum of the waits inside
the phase, which have deadlines and reasons of their own.
"""

from collections.abc import Coroutine

from ccinit.agent.guest import EarlyGuest
from ccinit.annotations import TypeVar
from ccinit.errors import CcinitError, DeadlineError, as_known
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import deadline
from ccinit.values import frozen

R = TypeVar("R")

SEED_LATE = "random.deadline"
"""Reason of the error when the kernel's random number generator is not seeded in time."""


@frozen(kw_only=False)
class Row:
    """One phase of the boot.

    Attributes:
        code: what the host learns if the phase fails.
        seconds: its deadline; 0 if the measured configuration (`limits`) sets it.
    """

    phase: Phase
    code: Code
    seconds: float = 0


# The loop ends what waits for something. The first three phases wait for nothing, so a call to the
# kernel that does not return is not ended there; their deadlines are for whoever adds a wait.
MOUNT = Row(Phase.MOUNT, Code.BOOT, 20)
HARDEN = Row(Phase.HARDEN, Code.BOOT, 50)
LISTEN = Row(Phase.LISTEN, Code.BOOT, 10)
CONFIG = Row(Phase.CONFIG, Code.CONFIG, 400)  # the seed, three children, the log's evidence
NET = Row(Phase.NET, Code.NET)
RANDOM = Row(Phase.RANDOM, Code.RANDOM, 300)
ATTEST = Row(Phase.ATTEST, Code.REFUSED)
UNLOCK = Row(Phase.UNLOCK, Code.STORAGE, 600)
PULL = Row(Phase.PULL, Code.IMAGE)
START = Row(Phase.START, Code.WORKLOAD_START, 600)  # formats.pod.probe relies on this value


class PhaseError(Exception):
    """A phase did not complete; carries what the host and the owner may know of the failure."""

    def __init__(self, phase: Phase, code: Code, error: CcinitError) -> None:
        super().__init__(str(error))
        self.phase = phase
        self.code = code
        self.error = error


async def run_phase(
    guest: EarlyGuest, row: Row, body: Coroutine[object, None, R], seconds: float = 0
) -> R:
    """Enter a phase, run its body under its deadline and log both ends.

    Args:
        guest: whose state and log record the phase.
        row: the phase.
        body: what it does.
        seconds: the deadline, for a row that has none.

    Raises:
        PhaseError: the body failed or was late.
    """
    began, max_seconds = boottime(), seconds or row.seconds
    guest.phase_time.begin(max_seconds)
    guest.state.enter(row.phase)
    guest.log.public_event(row.phase, Code.OK)
    try:
        async with deadline(max_seconds, f"{row.phase.name.lower()}.deadline"):
            result = await body
    except (CcinitError, OSError) as error:  # a bare OSError is a refusal by the kernel, too
        known = as_known(error)
        raise PhaseError(row.phase, _code(row, known), known) from error
    finally:
        guest.phase_time.end()
    took_seconds = boottime() - began
    guest.figures.phase_seconds[row.phase.name] = took_seconds
    guest.event(f"{row.phase.name} took {took_seconds * 1000:.0f} ms")
    return result


def _code(row: Row, error: CcinitError) -> Code:
    """Return the code for an error: the row's, or that of a delay which the next boot may not have.

    Such delays are an unreachable KBS, and a late seed, which CONFIG waits for because it is the
    first to use random bytes.
    """
    if isinstance(error, DeadlineError):
        if row.phase is Phase.ATTEST:
            return Code.KBS_UNREACHABLE
        if row.phase is Phase.CONFIG and error.reason == SEED_LATE:
            return Code.RANDOM
    return row.code
