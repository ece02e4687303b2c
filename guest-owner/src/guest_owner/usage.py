"""What the guest and its containers use, from two readings of the guest's metrics.

The text is Prometheus's format 0.0.4 as the guest renders it (`ccinit.formats.planes.prometheus`).
Names and labels that are unknown here are skipped: a newer guest may count more. Rates come
from the guest's own clock, so the network's delays do not count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ccinit.errors import FormatError

_MIB: Final = 1 << 20
HEADER: Final = ("CONTAINER", "STATE", "CPU", "MEMORY", "PIDS", "STARTS", "OOM")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Readings:
    """One reading: values by name and labels, the labels sorted."""

    values: Mapping[tuple[str, Labels], float]

    def of_guest(self, name: str) -> float:
        """A value without labels; 0 if it is not counted."""
        return self.values.get((f"ccinit_{name}", ()), 0.0)

    def of_container(self, container: str, name: str) -> float | None:
        """A value of a container; None while it does not run."""
        return self.values.get((f"ccinit_container_{name}", (("container", container),)))

    def states(self) -> Iterator[tuple[str, str]]:
        """Each container with its state, in the order in which the guest names them."""
        for (name, labels), value in self.values.items():
            if name == "ccinit_container_state" and value:
                given = dict(labels)
                yield given.get("container", ""), given.get("state", "")


def parse_metrics(text: str) -> Readings:
    """Read the text of `metrics`.

    Raises:
        FormatError: `metrics.line`.
    """
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return Readings(dict(map(_parse_line, lines)))


def summarize(now: Readings) -> str:
    """Return a line about the guest as a whole."""
    total, available = (now.of_guest(f"memory_{name}_bytes") for name in ("total", "available"))
    return (
        f"up {now.of_guest('uptime_seconds'):.0f} s, memory {(total - available) / _MIB:.0f} of "
        f"{total / _MIB:.0f} MiB, PID 1 {now.of_guest('pid1_pss_bytes') / _MIB:.1f} MiB, "
        f"{now.of_guest('log_dropped_total'):.0f} log entries dropped"
    )


def rows(before: Readings, now: Readings) -> Iterator[tuple[str, ...]]:
    """Yield the rows below `HEADER`, one for each container; `-` where nothing is counted.

    CPU is in percent of one processor, between the readings.
    """
    seconds = now.of_guest("uptime_seconds") - before.of_guest("uptime_seconds")
    for container, state in now.states():
        used, old = (one.of_container(container, "cpu_seconds_total") for one in (now, before))
        rate = None
        if used is not None and old is not None and used >= old and seconds > 0:
            rate = (used - old) / seconds
        memory = now.of_container(container, "memory_bytes")
        yield (
            container,
            state,
            "-" if rate is None else f"{rate:.1%}",
            "-" if memory is None else f"{memory / _MIB:.1f} MiB",
            _count(now.of_container(container, "processes")),
            _count(now.of_container(container, "starts_total")),
            _count(now.of_container(container, "oom_kills_total")),
        )


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _parse_line(line: str) -> tuple[tuple[str, Labels], float]:
    head, _, number = line.rpartition(" ")
    name, brace, rest = head.partition("{")
    try:
        value = float(number)
        labels = _parse_labels(rest.removesuffix("}")) if brace else ()
    except ValueError as error:
        raise FormatError("metrics.line", f"not a sample: {line[:80]!r}") from error
    return (name, labels), value


def _parse_labels(text: str) -> Labels:
    """Read `a="b",c="d"`; values have no quotes in them, since they are names of the manifest."""
    labels = []
    for part in text.split(","):
        name, value = part.split("=", 1)
        if len(value) < 2 or value[0] != '"' or value[-1] != '"':
            raise ValueError(part)
        labels.append((name, value[1:-1]))
    return tuple(sorted(labels))
