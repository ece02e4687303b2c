"""Metrics as text: names, labels that can hold anything, and numbers."""

from ccinit.formats.planes.prometheus import Metric, MetricKind, Sample, render


def test_metrics_are_lines_with_help_and_type() -> None:
    metric = Metric(
        name="x_total",
        kind=MetricKind.COUNTER,
        help="Counted.",
        samples=(Sample(value=3), Sample(value=0.5, labels=(("a", "b"), ("c", "d")))),
    )
    assert render([metric]) == (
        '# HELP x_total Counted.\n# TYPE x_total counter\nx_total 3\nx_total{a="b",c="d"} 0.5\n'
    )


def test_large_numbers_keep_every_digit() -> None:
    metric = Metric(name="x", kind=MetricKind.GAUGE, help="H", samples=(Sample(value=2**53),))
    assert render([metric]).endswith("x 9007199254740992\n")


def test_label_cannot_end_its_line_or_its_quotes() -> None:
    sample = Sample(value=1, labels=(("a", 'q"\n\\'),))
    text = render([Metric(name="x", kind=MetricKind.GAUGE, help="H", samples=(sample,))])
    assert text.splitlines()[2:] == ['x{a="q\\"\\n\\\\"} 1']


def test_metric_without_samples_is_left_out() -> None:
    assert render([Metric(name="x", kind=MetricKind.GAUGE, help="H", samples=())]) == ""
