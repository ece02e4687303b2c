"""A phase: its number, the code of its failures, its deadline, and its place in the log.

The table is the boot; `phases.py` fills each row with a function. A deadline ends a hang and
measures nothing, so it is generous: ten times what a slow machine needs, and more than all that
a phase waits for by turns, which has deadlines and reasons of its own.
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
"""Reason of the error that says that the kernel's generator had no seed in time."""


@frozen(kw_only=False)
class Row:
    """One phase of the boot.

    Attributes:
        code: what the host learns if the phase fails.
        seconds: its deadline; 0 where it is the measured configuration's (`limits`).
    """

    phase: Phase
    code: Code
    seconds: float = 0


MOUNT = Row(Phase.MOUNT, Code.BOOT, 20)
HARDEN = Row(Phase.HARDEN, Code.BOOT, 50)
LISTEN = Row(Phase.LISTEN, Code.BOOT, 10)
CONFIG = Row(Phase.CONFIG, Code.CONFIG, 400)  # the seed, three children, the log's evidence
NET = Row(Phase.NET, Code.NET)
RANDOM = Row(Phase.RANDOM, Code.RANDOM, 300)
ATTEST = Row(Phase.ATTEST, Code.REFUSED)
UNLOCK = Row(Phase.UNLOCK, Code.STORAGE, 600)
PULL = Row(Phase.PULL, Code.IMAGE)
START = Row(Phase.START, Code.WORKLOAD_START, 600)  # which formats.pod.probe knows, too


class PhaseError(Exception):
    """A phase did not reach its end; carries what the host and the owner may know of it."""

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
        guest: whose state and log tell of it.
        row: the phase.
        body: what it does.
        seconds: the deadline of a row that has none.

    Raises:
        PhaseError: the body failed or was late.
    """
    began, most_seconds = boottime(), seconds or row.seconds
    guest.phase_time.begin(most_seconds)
    guest.state.enter(row.phase)
    guest.log.public_event(row.phase, Code.OK)
    try:
        async with deadline(most_seconds, f"{row.phase.name.lower()}.deadline"):
            result = await body
    except (CcinitError, OSError) as error:  # a bare one is the kernel's refusal, too
        known = as_known(error)
        raise PhaseError(row.phase, _code(row, known), known) from error
    finally:
        guest.phase_time.end()
    took_seconds = boottime() - began
    guest.service.figures.phase_seconds[row.phase.name] = took_seconds
    guest.event(f"{row.phase.name} took {took_seconds * 1000:.0f} ms")
    return result


def _code(row: Row, error: CcinitError) -> Code:
    """The distinctions inside a phase: what was late and may be there in another boot.

    That is a KBS, and the seed, which CONFIG waits for: it uses the first random bytes.
    """
    if isinstance(error, DeadlineError):
        if row.phase is Phase.ATTEST:
            return Code.KBS_UNREACHABLE
        if row.phase is Phase.CONFIG and error.reason == SEED_LATE:
            return Code.RANDOM
    return row.code
