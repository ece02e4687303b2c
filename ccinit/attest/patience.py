"""How long to keep asking a KBS: jittered back-off under one total deadline.

The guest chooses the delays: a host that drops packets can make it wait but not flood the KBS, and
a `Retry-After` counts only up to a cap. Clock and sleep are parameters, so that tests need not
wait.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from ccinit.errors import CcinitError, DeadlineError
from ccinit.formats.kbs.release import MAX_ENCRYPTED_BYTES
from ccinit.kernel.clock import boottime
from ccinit.values import frozen


@frozen
class AttestLimits:
    """Limits of one client of a KBS.

    Attributes:
        total_seconds: for all calls, from the client's creation on.
        request_seconds: one request, connecting included.
        first_delay_seconds: before the second attempt; doubles each time.
        max_delay_seconds: the longest delay of our own.
        max_retry_after_seconds: the longest delay that the KBS may ask for.
        max_resource_bytes: one encrypted resource.
    """

    total_seconds: float = 600.0
    request_seconds: float = 60.0
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 15.0
    max_retry_after_seconds: float = 60.0
    max_resource_bytes: int = MAX_ENCRYPTED_BYTES


DEFAULT_LIMITS: Final = AttestLimits()


def random_fraction() -> float:
    """Return a number from [0, 1) of the kernel's random bytes."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


@frozen
class Waiting:
    """The clock, the sleep and the jitter to use."""

    now: Callable[[], float] = boottime
    sleep: Callable[[float], None] = time.sleep
    fraction: Callable[[], float] = random_fraction


class Patience:
    """The attempts of one call."""

    def __init__(self, limits: AttestLimits, waiting: Waiting) -> None:
        """Start the deadline of `limits.total_seconds`."""
        self._limits = limits
        self._waiting = waiting
        self._end = waiting.now() + limits.total_seconds
        self._delay = limits.first_delay_seconds

    @property
    def request_seconds(self) -> float:
        """Return the seconds that the next request may take."""
        return min(self._limits.request_seconds, max(self._end - self._waiting.now(), 0.0))

    def wait_after(self, error: CcinitError, retry_after: float | None) -> None:
        """Sleep before the next attempt.

        Args:
            error: why the last attempt failed.
            retry_after: seconds that the KBS asked for.

        Raises:
            DeadlineError: `kbs.unreachable`, no time is left for another attempt.
        """
        # Between half of the delay and all of it, so that guests that start together drift apart.
        seconds = self._delay * (0.5 + self._waiting.fraction() / 2)
        self._delay = min(2 * self._delay, self._limits.max_delay_seconds)
        if retry_after is not None:
            seconds = max(seconds, min(retry_after, self._limits.max_retry_after_seconds))
        if self._waiting.now() + seconds >= self._end:
            raise DeadlineError(
                "kbs.unreachable", f"gave up; the last attempt failed with {error}"
            ) from error
        self._waiting.sleep(seconds)
