"""The guest's phases as the two sides saw them: numbers for the host, a log for the owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from ccinit.formats.planes.host_rpc import Phase
from tests.chain.life import Life
from tests.chain.owner_log import OwnerLog


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """One phase: its name, how long it took, and what either side saw of it."""

    name: str
    milliseconds: int
    host: str
    owner: str


def plan_rows(life: Life, log: OwnerLog) -> tuple[PhaseRow, ...]:
    """Return the boot's phases up to the pod's start.

    Times are the host's: it sees when a phase number changes.
    """
    if life.hello_ms is None:
        return ()
    rows = [
        PhaseRow(
            name="BOOT", milliseconds=round(life.hello_ms), host="hello", owner="nothing: no key"
        )
    ]
    counts = log.counts_by_phase()
    starts = [(began, phase, code) for began, phase, code in life.seen if phase <= Phase.STOP]
    for (began, phase, code), (ended, _, _) in pairwise(starts):
        rows.append(
            PhaseRow(
                name=phase.name,
                milliseconds=round(ended - began),
                host=f"phase {phase.value}, code {code:#04x}",
                owner=_list_counts(counts.get(phase, {})),
            )
        )
    return tuple(rows)


def _list_counts(counts: Mapping[str, int]) -> str:
    if not counts:
        return "nothing: before its key is bound"
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
