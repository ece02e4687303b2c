from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from measured_boot.explanation import Step
from measured_boot.explanation_drawing import draw_svg, draw_text
from measured_boot.platforms import find_named_platform
from tests.unit.measured_boot.test_explanation import steps

STEPS = (
    Step(who="a", action="measures", what="x", where="PCR 1", digest="ab" * 32),
    Step(who="a", action="measures", what="longer", where="PCR 2"),
    Step(who="bcd", action="checks", what="<&>", where="y"),
)
NAMESPACE = "{http://www.w3.org/2000/svg}"


def parse() -> ET.Element:
    return ET.fromstring(draw_svg(STEPS, "title"))  # noqa: S314 - our own text


def test_draw_text_is_in_columns() -> None:
    assert draw_text(STEPS).splitlines() == [
        "a    measures  x       PCR 1  abababababababab",
        "a    measures  longer  PCR 2",
        "bcd  checks    <&>     y",
    ]


def test_draw_svg_has_a_box_for_each_run_of_a_program_and_each_end() -> None:
    root = parse()
    boxes = [box.get("class") for box in root.iter(f"{NAMESPACE}rect")]
    assert (boxes.count("w"), boxes.count("s"), boxes.count("r")) == (2, 3, 3)
    texts = [text.text for text in root.iter(f"{NAMESPACE}text")]
    assert {"title", "x", "<&>", "PCR 2"} <= set(texts)
    assert "ab" * 8 not in "".join(map(str, texts))


def test_draw_svg_boxes_lie_inside_the_drawing_and_not_over_each_other() -> None:
    root = parse()
    *_, width, height = map(float, str(root.get("viewBox")).split())
    taken: set[tuple[str, float]] = set()
    for box in root.iter(f"{NAMESPACE}rect"):
        if box.get("class") == "b":
            continue
        x, y, wide, high = (float(str(box.get(key))) for key in ("x", "y", "width", "height"))
        assert x + wide <= width
        assert y + high <= height
        assert (str(box.get("class")), y) not in taken
        taken.add((str(box.get("class")), y))


@pytest.mark.parametrize(
    ("name", "platform"),
    [
        ("tpm", "ovmf-2025.02_stub-257.13_qemu-10"),
        ("snp", "snp_direct_qemu-10"),
        ("tdx", "tdx_ovmf-2025.02_stub-257.13_qemu-10.1"),
    ],
)
def test_drawings_in_the_documents_are_current(name: str, platform: str) -> None:
    drawn = draw_svg(steps(find_named_platform(platform)), platform)
    assert Path(f"docs/measured-boot-{name}.svg").read_text() == drawn
