"""How much each pod may add to the log's main files.

An appraised guest can ask as often as it likes, and each answer is a record. What exceeds its pod's
share goes into a chain of its own, where such pods push out only each other's records. A pod here
means a registered initdata document: of sessions and keys a guest can have any number.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_DAY_SECONDS: Final = 24 * 3600


@dataclass(slots=True)
class _Share:
    left_bytes: float
    at: float


class Shares:
    """The shares of all pods: each is full at first, and refills within a day."""

    def __init__(self, day_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: day_bytes: what a pod may add in a day; clock: seconds."""
        self._day_bytes = day_bytes
        self._clock = clock
        self._by_pod: dict[str, _Share] = {}

    def take(self, pod: str, size_bytes: int) -> bool:
        """Take a record's size from a pod's share, if that much is left; return whether it was."""
        now = self._clock()
        if pod not in self._by_pod:
            self._forget_whole(now)
            self._by_pod[pod] = _Share(self._day_bytes, now)
        share = self._by_pod[pod]
        grown = (now - share.at) * self._day_bytes / _DAY_SECONDS
        share.left_bytes = min(self._day_bytes, share.left_bytes + grown)
        share.at = now
        if share.left_bytes < size_bytes:
            return False
        share.left_bytes -= size_bytes
        return True

    def _forget_whole(self, now: float) -> None:
        """Forget full shares, which equal new ones: pods come and go while the KBS runs."""
        used = {pod: one for pod, one in self._by_pod.items() if now - one.at < _DAY_SECONDS}
        self._by_pod = used
