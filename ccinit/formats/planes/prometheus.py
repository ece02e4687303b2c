"""Prometheus text format 0.0.4: numbers with names and labels as lines.

prometheus.io/docs/instrumenting/exposition_formats. Label values may be any text and are escaped;
names and help texts are our own and are not.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum

from ccinit.values import frozen


class MetricKind(StrEnum):
    """A counter only grows; a gauge may fall."""

    COUNTER = "counter"
    GAUGE = "gauge"


@frozen
class Sample:
    """One number, and the labels that tell it from others of its metric."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()


@frozen
class Metric:
    """All numbers of one name."""

    name: str
    kind: MetricKind
    help: str
    samples: tuple[Sample, ...]


def render(metrics: Iterable[Metric]) -> str:
    """Return the text; a metric without samples is left out."""
    return "".join(line + "\n" for metric in metrics if metric.samples for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in metric.samples:
        labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sample.labels)
        name = f"{metric.name}{{{labels}}}" if labels else metric.name
        yield f"{name} {sample.value:.17g}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
