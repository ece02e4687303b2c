"""The KBS's notices to its operator, on standard error, rate-limited: strangers could flood it.

The first notice of a kind is printed at once. For a minute, others of that kind are only counted;
the next one that is printed says how many they were.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PAUSE_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Kind:
    printed_at: float
    unprinted: int = 0


class Notices:
    """Notices of one part of the KBS; their kinds are constants of the code, so there are few."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: write: takes one line; clock: seconds."""
        self._write = write
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def tell(self, kind: str, text: str) -> None:
        """Print a notice, or count it if one of its kind was printed lately."""
        now = self._clock()
        known = self._kinds.get(kind)
        if known is not None and now < known.printed_at + PAUSE_SECONDS:
            known.unprinted += 1
            return
        more = (
            f" ({known.unprinted} more of this kind since then)"
            if known and known.unprinted
            else ""
        )
        self._kinds[kind] = _Kind(printed_at=now)
        self._write(text + more)
