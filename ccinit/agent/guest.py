"""What PID 1 holds while the guest lives.

Up to LISTEN there is only an `EarlyGuest`; a `Guest`'s further parts are imported once the host
plane answers.
"""

from ccinit.agent.figures import Figures
from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.agent.teardown import Teardown
from ccinit.annotations import TYPE_CHECKING
from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import Event, EventLoop, Lock
from ccinit.seal.log import OWN_SOURCE, SealedLog
from ccinit.values import field, fields, frozen

if TYPE_CHECKING:
    from ccinit.agent.processes.children import Children
    from ccinit.run.supervisor import Supervisor

_MAX_REPORT_SECONDS = 60.0


class PhaseTime:
    """The time left in the current phase, for code in it that waits for others.

    The phase's own deadline ends any hang but cannot name its cause. So a wait for a slow or
    missing KBS or registry ends earlier, with an error that names it.
    """

    def __init__(self) -> None:
        self._ends_at = float("inf")

    def begin(self, seconds: float) -> None:
        """Begin a phase of `seconds`."""
        self._ends_at = boottime() + seconds

    def end(self) -> None:
        """End the phase; there is no limit until the next one."""
        self._ends_at = float("inf")

    def left(self, max_seconds: float) -> float:
        """Return the seconds left, at most `max_seconds`."""
        return min(max_seconds, self._ends_at - boottime())


def inner_seconds(seconds: float) -> int:
    """Return the time limit for a task that must give up and report why within `seconds`."""
    return max(1, int(seconds - min(seconds / 10, _MAX_REPORT_SECONDS)))


class VerifiersRequest:
    """The KBS's latest request, on platforms whose evidence answers a verifier's request.

    Evidence for others (the sealed log, a container, the owner) answers this request, too: the
    report data makes it fresh, and only the owner has the request's key.
    """

    def __init__(self) -> None:
        self.text = b""


@frozen
class EarlyGuest:
    """The parts that every phase may use, even the first.

    Attributes:
        teardown: undoes what the phases have set up.
        failures: why the guest gives up although no phase failed, and the host's code for it.
        phase_time: the time left in the current phase.
        figures: what the boot has cost so far.
    """

    loop: EventLoop
    state: BootState
    log: SealedLog
    service: HostService
    teardown: Teardown
    failures: list[tuple[CcinitError, Code]] = field(default_factory=list)
    phase_time: PhaseTime = field(default_factory=PhaseTime)
    figures: Figures = field(default_factory=Figures)

    def give_up(self, error: CcinitError, code: Code) -> None:
        """End the guest in an orderly way, for a fault outside any phase; the host gets `code`."""
        self.failures.append((error, code))
        self.service.stopping.set()

    def event(self, text: str, source: str = OWN_SOURCE) -> None:
        """Seal one line; before attestation it is only counted.

        Args:
            text: the line.
            source: the part of the guest, if others can cause such events whenever they like.
        """
        self.log.append(Kind.EVENT, source, text.encode())

    def with_children(self, children: "Children") -> "Guest":
        """Return the whole guest, which has all that this one has."""
        mine = {one.name: getattr(self, one.name) for one in fields(self)}
        return Guest(**mine, children=children)


def assemble(loop: EventLoop, build_id: bytes) -> EarlyGuest:
    """Put the parts of a guest together; nothing is started yet."""
    state, log = BootState(), SealedLog()
    service = HostService(state, build_id, log.ring)
    return EarlyGuest(loop=loop, state=state, log=log, service=service, teardown=Teardown())


@frozen
class Guest(EarlyGuest):
    """The parts that every phase from CONFIG on may use.

    Attributes:
        children: starts the processes that read untrusted bytes.
        containers: the manifest's, by name; START fills it.
        verifiers_request: see its class.
        evidence_lock: allows one quote or measurement at a time: Azure's report holds the report
            data of one caller, and the event log sent with a quote has to match its register.
        clock_doubted: set when the clock was late, or when a refused date suggests that it is.
    """

    children: "Children"
    containers: dict[str, "Supervisor"] = field(default_factory=dict)
    verifiers_request: VerifiersRequest = field(default_factory=VerifiersRequest)
    evidence_lock: Lock = field(default_factory=Lock)
    clock_doubted: Event = field(default_factory=Event)
