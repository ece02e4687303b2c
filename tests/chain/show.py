"""What the chain says while it works: who does what, how long it took, and tables at the end."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ccinit.errors import CcinitError


class PartyError(Exception):
    """A party failed; says which, why, and what to do."""

    def __init__(
        self, party: str, why: str, remedy: str = "the message names what to look at"
    ) -> None:
        super().__init__(f"{party} failed: {why}")
        self.remedy = remedy


@dataclass(slots=True)
class Show:
    """Prints one line when a step begins and another when it ends, and keeps the times."""

    phases: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, party: str, text: str) -> Iterator[None]:
        """Time a step of one party.

        Raises:
            PartyError: the step failed.
        """
        began = time.monotonic()
        self.say(party, f"{text} …")
        try:
            yield
        except (CcinitError, OSError, subprocess.SubprocessError, AssertionError) as error:
            raise PartyError(party, f"{text}: {error}") from error
        seconds = time.monotonic() - began
        self.phases.append((f"{party}: {text}", seconds * 1000))
        self.say(party, f"{text}: done in {seconds:.1f} s")

    def say(self, party: str, text: str) -> None:
        """Print one line of a party."""
        print(f"  {party:<9} {text}", flush=True)

    def title(self, text: str) -> None:
        """Print a heading."""
        print(f"\n{text}", flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows under a head, in columns."""
        for line in format_table(head, rows):
            print(f"  {line}", flush=True)


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the lines of a table: head, rule, rows; columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return tuple(lines)
