"""The stack that undoes what a guest has set up.

Each step of set-up registers its teardown at once, so the way down is the way up in reverse, from
whatever phase the guest ends in.
"""

from collections.abc import Awaitable, Callable

from ccinit.errors import CcinitError, as_known
from ccinit.kernel.event_loop import Lock, deadline

OWNER_PLANE_STEP = "owner plane"
"""A step of the teardown: those after it belong to the pod, and are undone when debug opens."""

STEP_SECONDS = 60.0
"""Default deadline of a teardown step. What programs and the KBS need has deadlines of its own."""

Undo = Callable[[], Awaitable[None]]


def undoing(step: Callable[[], None]) -> Undo:
    """Make a step of the teardown from a plain function."""

    async def undo() -> None:
        step()

    return undo


class Teardown:
    """A stack of named steps, each run once; one that fails or hangs does not stop the next.

    So keys are wiped whatever else goes wrong on the way down.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Undo, float]] = []
        self._lock = Lock()  # keeps the order even if two callers undo at once

    def push(self, name: str, undo: Undo, seconds: float = STEP_SECONDS) -> None:
        """Register how to undo what was just done, and how long undoing it may take."""
        self._steps.append((name, undo, seconds))

    async def run(self, *, above: str = "") -> tuple[tuple[str, CcinitError], ...]:
        """Undo everything, or the steps after `above`, newest first; return what failed and why.

        Raises:
            RuntimeError: there is no step `above` (a bug).
        """
        if above and all(name != above for name, *_ in self._steps):
            raise RuntimeError(f"nothing undoes {above}")
        failures = []
        async with self._lock:
            while self._steps and self._steps[-1][0] != above:
                name, undo, seconds = self._steps.pop()
                try:
                    async with deadline(seconds, "stop.deadline"):
                        await undo()
                except Exception as error:  # noqa: BLE001  # reported; the next steps still run
                    failures.append((name, as_known(error)))
        return tuple(failures)
