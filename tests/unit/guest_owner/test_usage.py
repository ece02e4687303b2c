"""Rates and tables from two readings, as the guest renders them."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.planes.prometheus import Metric, MetricKind, Sample, render
from guest_owner.usage import parse_metrics, rows, summarize


def text(uptime: float, cpu: float, *, runs: bool = True) -> str:
    """Metrics of a guest with `web`, which runs, and `db`, which has ended."""
    web = (("container", "web"),)

    def metric(name: str, *samples: Sample) -> Metric:
        return Metric(name=f"ccinit_{name}", kind=MetricKind.GAUGE, help=name, samples=samples)

    metrics = [
        metric("uptime_seconds", Sample(value=uptime)),
        metric("memory_total_bytes", Sample(value=512 << 20)),
        metric("memory_available_bytes", Sample(value=112 << 20)),
        metric("pid1_pss_bytes", Sample(value=21 << 20)),
        metric("log_dropped_total", Sample(value=3)),
        metric(
            "container_state",
            Sample(value=1, labels=(*web, ("state", "running" if runs else "retrying"))),
            Sample(value=1, labels=(("container", "db"), ("state", "done"))),
        ),
        metric(
            "container_starts_total",
            Sample(value=2, labels=web),
            Sample(value=1, labels=(("container", "db"),)),
        ),
        metric("container_oom_kills_total", Sample(value=3, labels=web)),
    ]
    if runs:
        metrics += [
            metric("container_cpu_seconds_total", Sample(value=cpu, labels=web)),
            metric("container_memory_bytes", Sample(value=48.25 * (1 << 20), labels=web)),
            metric("container_processes", Sample(value=5, labels=web)),
        ]
    return render(metrics)


def test_rates_are_by_the_guests_clock() -> None:
    table = list(rows(parse_metrics(text(100, 7)), parse_metrics(text(104, 8))))
    assert table == [
        ("web", "running", "25.0%", "48.2 MiB", "5", "2", "3"),
        ("db", "done", "-", "-", "-", "1", "-"),
    ]


def test_container_that_does_not_run_has_no_usage() -> None:
    stopped = text(104, 0, runs=False)
    for before in (text(100, 7), stopped):
        (web, _) = rows(parse_metrics(before), parse_metrics(stopped))
        assert web == ("web", "retrying", "-", "-", "-", "2", "3")


@pytest.mark.parametrize("before", [text(100, 9), text(104, 8), text(100, 7, runs=False)])
def test_container_or_clock_that_began_anew_has_no_rate(before: str) -> None:
    (web, _) = rows(parse_metrics(before), parse_metrics(text(104, 8)))
    assert web[2] == "-"


def test_guest_has_a_line_of_its_own() -> None:
    assert summarize(parse_metrics(text(100.4, 0))) == (
        "up 100 s, memory 400 of 512 MiB, PID 1 21.0 MiB, 3 log entries dropped"
    )


@pytest.mark.parametrize("line", ["x", "x y", 'x{a="b} 1', "x{a} 1", "x{a=b} 1"])
def test_other_text_is_refused(line: str) -> None:
    assert parse_metrics('x{a="b"} 1\nx 2.5\n').values
    with pytest.raises(FormatError) as refused:
        parse_metrics(line)
    assert refused.value.reason == "metrics.line"
