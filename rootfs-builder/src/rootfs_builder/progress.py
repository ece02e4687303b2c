"""One line of text for each thing that takes time, with the seconds since the start."""

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where progress goes and since when it counts."""

    name: str
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Write one line."""
        seconds = time.monotonic() - self.started
        self.stream.write(f"{self.name}: [{seconds:4.0f} s] {text}\n")
        self.stream.flush()
