"""What PID 1 holds while the guest lives, and the stack that undoes it.

Teardown is registered right after set-up, so the way down is the way up in reverse, from whatever
phase the guest ends in.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ccinit.agent.children import Children
from ccinit.agent.host_service import HostService
from ccinit.agent.state import BootState
from ccinit.errors import CcinitError
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import EventLoop
from ccinit.seal.log import SealedLog
from ccinit.values import field, frozen

if TYPE_CHECKING:
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


@frozen
class Guest:
    """The parts that every phase may use.

    Attributes:
        teardown: the way down.
        containers: of the manifest, by name; START fills it.
    """

    loop: EventLoop
    state: BootState
    log: SealedLog
    service: HostService
    children: Children
    teardown: Teardown
    containers: dict[str, "Supervisor"] = field(default_factory=dict)

    def event(self, text: str) -> None:
        """Seal one line of the guest's own; before attestation it is only counted."""
        self.log.append(Kind.EVENT, "ccinit", text.encode())
