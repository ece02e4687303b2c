"""What the host may know of this boot: a phase, a code, a counter and a flag.

The counter grows with every change, so `wait` misses none even if several happen between two calls.
Nothing here can hold text.
"""

from ccinit.formats.planes.host_rpc import Code, Phase, StateFlag
from ccinit.kernel.event_loop import Event, at_most


class BootState:
    """The state that `state` and `wait` report; only PID 1's phases write it."""

    def __init__(self) -> None:
        self.phase = Phase.ENTRY
        self.code = Code.OK
        self.flags = StateFlag(0)
        self._seq = 0
        self._changed = Event()

    def enter(self, phase: Phase) -> None:
        """Enter a phase.

        Raises:
            RuntimeError: phases never go back (a bug).
        """
        if phase <= self.phase:
            raise RuntimeError(f"{phase.name} after {self.phase.name}")
        self.phase = phase
        self._change()

    def fail(self, code: Code) -> None:
        """Record why the guest ends; the first code stays."""
        if self.code is Code.OK:
            self.code = code
            self._change()

    @property
    def is_debug(self) -> bool:
        """Whether debug was opened in this boot."""
        return StateFlag.DEBUG in self.flags

    def open_debug(self) -> None:
        """Show that debug is open, for the rest of the boot."""
        self.flags |= StateFlag.DEBUG
        self._change()

    def report(self) -> tuple[int, int, int, int]:
        """Return the results of `state`: phase, code, seq, flags."""
        return int(self.phase), int(self.code), self._seq, int(self.flags)

    async def wait_for_change(self, seq: int, seconds: float) -> None:
        """Wait until the counter is no longer `seq`, for at most `seconds`."""
        async with at_most(seconds):
            while self._seq == seq:
                self._changed.clear()
                await self._changed.wait()

    def _change(self) -> None:
        self._seq = (self._seq + 1) & 0xFFFF_FFFF
        self._changed.set()
