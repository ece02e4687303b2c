"""What PID 1 holds while the guest lives, and the stack that undoes it.

Teardown is registered right after set-up, so the way down is the way up in reverse, from whatever
phase the guest ends in. Up to LISTEN there is an `EarlyGuest`; what else a `Guest` has is imported
when the host already gets its answers.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.errors import CcinitError
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import EventLoop
from ccinit.seal.log import SealedLog
from ccinit.values import field, frozen

if TYPE_CHECKING:
    from ccinit.agent.children import Children
    from ccinit.run.supervisor import Supervisor

Undo = Callable[[], Awaitable[None]]


def undoing(step: Callable[[], None]) -> Undo:
    """Make a step of the teardown from a plain function."""

    async def undo() -> None:
        step()

    return undo


class Teardown:
    """A stack of named steps; each runs once, a failing step does not stop the next."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Undo]] = []

    def push(self, name: str, undo: Undo) -> None:
        """Register how to undo what has just been done."""
        self._steps.append((name, undo))

    async def run(self) -> tuple[tuple[str, CcinitError], ...]:
        """Undo everything, newest first; return the steps that failed and why."""
        failures = []
        while self._steps:
            name, undo = self._steps.pop()
            try:
                await undo()
            except CcinitError as error:
                failures.append((name, error))
        return tuple(failures)


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
    """

    loop: EventLoop
    state: BootState
    log: SealedLog
    service: HostService
    teardown: Teardown

    def event(self, text: str) -> None:
        """Seal one line of the guest's own; before attestation it is only counted."""
        self.log.append(Kind.EVENT, "ccinit", text.encode())


@frozen
class Guest(EarlyGuest):
    """The parts that every phase from CONFIG on may use.

    Attributes:
        children: where untrusted bytes are read.
        containers: of the manifest, by name; START fills it.
        verifiers_request: see there.
    """

    children: "Children"
    containers: dict[str, "Supervisor"] = field(default_factory=dict)
    verifiers_request: VerifiersRequest = field(default_factory=VerifiersRequest)
