"""What the owner reads: the sealed log, opened and verified by `guest-owner unseal --json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ccinit.formats.planes.host_rpc import Phase
from tests.chain.parties import Owner
from tests.chain.show import PartyError

_WORKLOAD_KINDS = frozenset({"stdout", "stderr"})
_PID1 = "pid1 "
_ANY_VERDICT = (0, 1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the log; `boottime_us` counts from the guest's own start."""

    boottime_us: int
    kind: str
    source: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerLog:
    """A log as `guest-owner unseal` printed it.

    Attributes:
        verdict: its last line: what was verified, and what was found wrong.
    """

    entries: tuple[Entry, ...]
    verdict: Mapping[str, object]

    @property
    def is_whole(self) -> bool:
        """Whether it is complete, signed to its end, and bound to a guest that the owner trusts."""
        return self._is_complete and bool(self.verdict["bound"]) and not self.verdict["findings"]

    @property
    def is_whole_but_unbound(self) -> bool:
        """Whether it is complete and signed, and its evidence binds no document, as found."""
        findings = self.verdict["findings"]
        return (
            self._is_complete
            and self.verdict["bound"] is False
            and isinstance(findings, list)
            and [finding["reason"] for finding in findings] == ["unseal.evidence"]
            and str(findings[0]["detail"]).endswith("evidence refused: initdata.digest")
        )

    @property
    def _is_complete(self) -> bool:
        verdict = self.verdict
        return bool(
            verdict["ended"] and verdict["mixed"] and verdict["signed"] == verdict["records"]
        )

    def workload_lines(self, container: str) -> tuple[str, ...]:
        """Return what a container wrote."""
        return tuple(
            entry.text
            for entry in self.entries
            if entry.kind in _WORKLOAD_KINDS and entry.source == container
        )

    def text(self) -> bytes:
        """Return everything that it says, for a search."""
        return "\n".join(f"{entry.source} {entry.text}" for entry in self.entries).encode()

    def report(self) -> str:
        """Return the guest's last words."""
        return next((entry.text for entry in self.entries if entry.kind == "report"), "")

    def took_ms(self, phase: Phase) -> int:
        """Return how long a phase took.

        Raises:
            PartyError: the log does not say.
        """
        head = f"{phase.name} took "
        for entry in self.entries:
            if entry.kind == "event" and entry.text.startswith(head):
                return int(entry.text.removeprefix(head).removesuffix(" ms"))
        raise PartyError("guest", f"its log does not say how long {phase.name} took")

    def pid1_figures(self) -> Mapping[str, int]:
        """Return what PID 1 said of itself: `pss_bytes`, `exec_to_rpc_ms`, and what else it says.

        Raises:
            PartyError: it said nothing.
        """
        for entry in self.entries:
            if entry.kind == "event" and entry.text.startswith(_PID1):
                pairs = (word.partition("=") for word in entry.text.removeprefix(_PID1).split())
                return {name: int(value) for name, _, value in pairs}
        raise PartyError("guest", "its log says nothing of PID 1's memory and start")

    def counts_by_phase(self) -> Mapping[Phase, Mapping[str, int]]:
        """Return how many entries of each kind were made in each phase that the log begins."""
        counts: dict[Phase, dict[str, int]] = {}
        current: dict[str, int] = {}
        for entry in self.entries:
            if entry.kind == "code":
                current = counts.setdefault(Phase[entry.text.split()[1]], {})
            current[entry.kind] = current.get(entry.kind, 0) + 1
        return counts


def read_log(
    owner: Owner,
    stream: Path,
    *,
    key: Path | None = None,
    is_own: bool = True,
    binds_initdata: bool = True,
) -> OwnerLog:
    """Unseal a stream.

    Args:
        owner: whose registrations judge the evidence.
        stream: what the host collected.
        key: private key of the log; the owner's own if it is None.
        is_own: whether anything but a whole log that verifies is a failure.
        binds_initdata: whether the platform's evidence can say which pod wrote the log.

    Raises:
        PartyError: the log is not what the owner expects.
    """
    output = owner.run(
        *("unseal", stream, "--key", key or owner.log_key, "--psk", owner.log_psk),
        *("--state", owner.state, "--json"),
        accept=_ANY_VERDICT,
    )
    log = parse_log(output)
    if is_own and not (log.is_whole if binds_initdata else log.is_whole_but_unbound):
        raise PartyError(
            "owner",
            f"the log of {stream.name} is not whole: {dict(log.verdict)}",
            "the verdict names the record; the host may have withheld what followed",
        )
    return log


def parse_log(output: str) -> OwnerLog:
    """Read the lines of `guest-owner unseal --json`."""
    *rows, verdict = map(json.loads, output.splitlines())
    return OwnerLog(
        entries=tuple(
            Entry(
                boottime_us=row["boottime_us"],
                kind=row["kind"],
                source=row["source"],
                text=row["text"],
            )
            for row in rows
        ),
        verdict=verdict,
    )
