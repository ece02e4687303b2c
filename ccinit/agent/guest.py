"""What PID 1 holds while the guest lives, and the stack that undoes it.

Teardown is registered right after set-up, so the way down is the way up in reverse, from whatever
phase the guest ends in. Up to LISTEN there is an `EarlyGuest`; what else a `Guest` has is imported
when the host already gets its answers.
"""

from collections.abc import Awaitable, Callable

from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.annotations import TYPE_CHECKING
from ccinit.errors import CcinitError, as_known
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import Event, EventLoop, Lock, deadline
from ccinit.seal.log import OWN_SOURCE, SealedLog
from ccinit.values import field, frozen

if TYPE_CHECKING:
    from ccinit.agent.processes.children import Children
    from ccinit.run.supervisor import Supervisor

OWNER_PLANE_STEP = "owner plane"
"""In the teardown: what comes after it is the pod's, and ends when debug opens."""

STEP_SECONDS = 60.0
"""For a step of the teardown that says nothing else: programs and the KBS have had their own time
by then."""

_MOST_TO_TELL_SECONDS = 60.0

Undo = Callable[[], Awaitable[None]]


def undoing(step: Callable[[], None]) -> Undo:
    """Make a step of the teardown from a plain function."""

    async def undo() -> None:
        step()

    return undo


class Teardown:
    """A stack of named steps; each runs once, and one that fails or hangs does not stop the next.

    So whatever else goes wrong on the way down, keys are wiped.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Undo, float]] = []
        self._lock = Lock()  # the order down holds, whoever else has begun to go down

    def push(self, name: str, undo: Undo, seconds: float = STEP_SECONDS) -> None:
        """Register how to undo what has just been done, and how long that may take."""
        self._steps.append((name, undo, seconds))

    async def run(self) -> tuple[tuple[str, CcinitError], ...]:
        """Undo everything, newest first; return the steps that failed and why."""
        return await self._run_above("")

    async def run_above(self, name: str) -> tuple[tuple[str, CcinitError], ...]:
        """Undo what came after the step `name`, which stays with those before it; as `run`.

        Raises:
            RuntimeError: there is no such step (a bug).
        """
        if all(step != name for step, *_ in self._steps):
            raise RuntimeError(f"nothing undoes {name}")
        return await self._run_above(name)

    async def _run_above(self, last: str) -> tuple[tuple[str, CcinitError], ...]:
        failures = []
        async with self._lock:
            while self._steps and self._steps[-1][0] != last:
                name, undo, seconds = self._steps.pop()
                try:
                    async with deadline(seconds, "stop.deadline"):
                        await undo()
                except Exception as error:  # noqa: BLE001  # reported, and the way down goes on
                    failures.append((name, as_known(error)))
        return tuple(failures)


class PhaseTime:
    """What is left of the present phase's time, for whoever waits for others inside it.

    The phase's own deadline ends whatever hangs, and knows no reason. So a KBS or a registry that
    is slow or gone is given up before it, and told by name.
    """

    def __init__(self) -> None:
        self._ends_at = float("inf")

    def begin(self, seconds: float) -> None:
        """A phase of so many seconds begins."""
        self._ends_at = boottime() + seconds

    def end(self) -> None:
        """Until the next phase nothing ends by itself."""
        self._ends_at = float("inf")

    def left(self, most_seconds: float) -> float:
        """Return what is left, at most `most_seconds`."""
        return min(most_seconds, self._ends_at - boottime())


def inner_seconds(seconds: float) -> int:
    """Return what to give whoever has to give up, and to say why, within `seconds`."""
    return max(1, int(seconds - min(seconds / 10, _MOST_TO_TELL_SECONDS)))


class VerifiersRequest:
    """What the owner's KBS last asked for, on platforms whose evidence answers a request.

    Evidence that goes elsewhere (the sealed log's, a container's, the owner's) answers it, too:
    what makes it fresh is its report data, and only the owner has the request's key.
    """

    def __init__(self) -> None:
        self.text = b""


@frozen
class EarlyGuest:
    """The parts that every phase may use, the first ones included.

    Attributes:
        teardown: the way down.
        failures: why the guest gives up although no phase failed, and the host's code for it.
        phase_time: of the phase that it is in.
    """

    loop: EventLoop
    state: BootState
    log: SealedLog
    service: HostService
    teardown: Teardown
    failures: list[tuple[CcinitError, Code]] = field(default_factory=list)
    phase_time: PhaseTime = field(default_factory=PhaseTime)

    def give_up(self, error: CcinitError, code: Code) -> None:
        """End the guest, in order, for a fault that no phase waits for; `code` is for the host."""
        self.failures.append((error, code))
        self.service.stopping.set()

    def event(self, text: str, source: str = OWN_SOURCE) -> None:
        """Seal one line; before attestation it is only counted.

        Args:
            text: the line.
            source: the part of the guest where others bring it about, whenever they like.
        """
        self.log.append(Kind.EVENT, source, text.encode())


@frozen
class Guest(EarlyGuest):
    """The parts that every phase from CONFIG on may use.

    Attributes:
        children: where untrusted bytes are read.
        containers: of the manifest, by name; START fills it.
        verifiers_request: see there.
        evidence_lock: one quote or measurement at a time: some devices take one user, Azure's
            report has place for the report data of one, and the event log that goes with a quote
            has to be what its register holds.
        clock_doubted: set when the clock was late, or somebody refuses dates as if it were.
    """

    children: "Children"
    containers: dict[str, "Supervisor"] = field(default_factory=dict)
    verifiers_request: VerifiersRequest = field(default_factory=VerifiersRequest)
    evidence_lock: Lock = field(default_factory=Lock)
    clock_doubted: Event = field(default_factory=Event)
