"""How fast one connection's calls are answered: some at once, then so many in a second.

A client may send calls as fast as it can. PID 1 would be busy with nothing else (a pod's probes
wait for it, too), and the sealed log would get a record for each. A call that comes too early
waits; so does its connection, since the child asks for one call after the other.

This is the generic cell rate algorithm (ITU-T I.371, annex A), which needs no timer.
"""

from typing import Final

CALLS_AT_ONCE: Final = 100
CALLS_A_SECOND: Final = 10
"""As often as `guest-owner top` looks at most."""


class CallPace:
    """The pace of one connection."""

    def __init__(self) -> None:
        self._due = 0.0  # when the next call would come from a client that keeps the pace

    def wait_seconds(self, now: float) -> float:
        """Take a call that comes at `now`, seconds on any clock; return how long it has to wait."""
        self._due = max(self._due, now) + 1 / CALLS_A_SECOND
        return max(0.0, self._due - now - CALLS_AT_ONCE / CALLS_A_SECOND)
