"""How a ratio is measured: sides take turns in one run, so that disturbances hit all of them.

Nothing here knows what is measured. A side is a function that does the work once and returns what
it saw; the rounds go A B A B …, after one round that does not count. A ratio compares medians; its
spread is over the ratios of the single rounds, in which both sides met the same conditions.
"""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rootfs_builder.tools_tree import ToolsTree

T = TypeVar("T")
Side = Callable[[], T]


class BenchError(Exception):
    """A measurement could not be made; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report; fields are the report's keys (DESIGN section 11).

    Attributes:
        unit: of `ours`, `peer` and `floor`, which are medians.
        floor: what no implementation can go below here; None if unknown.
        ratio: `ours / peer`; less is better in every row.
        goal: the target ratio; the row's module says why.
        runs: rounds that counted.
        spread: largest minus smallest ratio of a round, as a fraction of `ratio`.
    """

    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str
    floor: float | None
    ratio: float
    goal: float
    met: bool
    runs: int
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a row gets.

    Attributes:
        tools: the tree that peers come from.
        images: folder with the guest's published image.
        work: an empty folder for what a measurement leaves; not a tmpfs, gone afterwards.
        cache: a folder for what takes long to make; kept.
        runs: rounds of every row instead of what the row finds enough.
        say: prints one line of progress.
    """

    tools: ToolsTree
    images: Path
    work: Path
    cache: Path
    runs: int | None
    say: Callable[[str], None]

    def rounds(self, enough: int) -> int:
        """Return how many rounds are to count."""
        return enough if self.runs is None else self.runs


def interleave(
    sides: Mapping[str, Side[T]], rounds: int, say: Callable[[str], None], *, warm_ups: int = 1
) -> dict[str, tuple[T, ...]]:
    """Run every side `rounds` times in turns, after the warm-ups; return what each saw."""
    seen: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(1 - warm_ups, rounds + 1):
        say("warm-up" if number < 1 else f"round {number} of {rounds}")
        for name, side in sides.items():
            value = side()
            if number >= 1:
                seen[name].append(value)
    return {name: tuple(values) for name, values in seen.items()}


def compare(
    name: str,
    unit: str,
    *,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    goal: float,
    floor: Sequence[float] = (),
) -> Row:
    """Make the row of two series, round by round.

    Raises:
        BenchError: a series is empty, or something took nothing: it was not measured.
    """
    if not ours or len(ours) != len(peer) or min(*ours, *peer) <= 0:
        raise BenchError(f"{name}: {len(ours)} values against {len(peer)}, or one that is zero")
    ratio = statistics.median(ours) / statistics.median(peer)
    rounds = [left / right for left, right in zip(ours, peer, strict=True)]
    return Row(
        name=name,
        unit=unit,
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        peer_name=peer_name,
        floor=statistics.median(floor) if floor else None,
        ratio=ratio,
        goal=goal,
        met=ratio <= goal,
        runs=len(ours),
        spread=(max(rounds) - min(rounds)) / ratio,
    )


def describe_machine() -> dict[str, object]:
    """Return what a reader has to know about the machine, and nothing that identifies it."""
    release = os.uname()
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "kernel": f"{release.sysname} {release.release} {release.machine}",
        "load_before": os.getloadavg()[0],
    }


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"
