import json
from xml.etree import ElementTree as ET

import pytest

from tests.bench.chart import encode_chart
from tests.bench.measurement import Row, compare
from tests.bench.report import encode_report, number, table_lines

ROW_KEYS = {
    "name", "unit", "ours", "peer", "peer_name", "floor", "ratio", "goal", "met", "runs", "spread",
}  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"


def rows() -> tuple[Row, ...]:
    return (
        compare("a & b", "s", ours=(1.0,), peer=(4.0,), peer_name="<p>", goal=0.5, floor=(0.5,)),
        compare("c", "MiB", ours=(30.0,), peer=(3.0,), peer_name="q", goal=2.0),
    )


def test_report_has_the_agreed_keys_and_no_others() -> None:
    report = json.loads(encode_report({"cpus": 2}, rows()))
    assert report.keys() == {"machine", "rows"}
    assert [set(row) for row in report["rows"]] == [ROW_KEYS, ROW_KEYS]
    assert report["rows"][0]["met"] is True
    assert report["rows"][1]["floor"] is None


def test_table_has_a_line_for_each_row_and_marks_a_missed_goal() -> None:
    _head, _rule, first, second = table_lines(rows())
    assert first.split()[-3:] == ["1", "0%", "<p>"]
    assert " yes " in first
    assert " NO " in second


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.176, "0.18"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_number_keeps_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_chart_is_xml_with_a_bar_goal_and_name_for_each_row() -> None:
    root = ET.fromstring(encode_chart(rows()))  # noqa: S314  # our own text
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "a & b" in texts
    assert "<p>" in texts
    assert len(list(root.iter(f"{SVG}polygon"))) == 1 + 1  # the floor that is known, the legend


def test_chart_bars_go_left_if_ours_is_less_and_right_if_it_is_more() -> None:
    root = ET.fromstring(encode_chart(rows()))  # noqa: S314
    _page, less, more, *_legend = [
        (float(bar.get("x", "")), float(bar.get("width", ""))) for bar in root.iter(f"{SVG}rect")
    ]
    assert less[0] + less[1] == pytest.approx(more[0], abs=0.2)
