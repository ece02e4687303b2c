"""docs/oci-runtime.md says what the code does."""

import re
import tomllib
from pathlib import Path

from ccinit.formats.planes.host_rpc import Code
from host_runtime.oci_runtime.cli import REFUSED
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA, PREFIX
from host_runtime.oci_runtime.operator_config import Choice, parse_operator_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/oci-runtime.md").read_text()
FOLDER = ROOT / "host-runtime/src/host_runtime/oci_runtime"
OF_BUNDLES = ("bundle.py", "pod_part.py", "pod_member.py", "lifecycle.py")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_example_of_the_operators_file_is_read() -> None:
    example = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
    config = parse_operator_config(example.encode())
    assert [image.name for image in config.images] == ["prod", "prod-snp"]


def test_example_of_containerds_file_passes_our_annotations_on() -> None:
    example = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[-1])
    runtimes = example["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]["runtimes"]
    assert runtimes["ccinit"]["pod_annotations"] == [f"{PREFIX}*", COCO_INITDATA]


def test_every_annotation_has_its_row() -> None:
    rows = re.findall(r"^\| `([^`]+)`.*?\| `(\w+)` \|", section("Annotations"), re.MULTILINE)
    assert dict(rows) == {f"{PREFIX}{choice}": choice for choice in Choice}
    assert f"`{COCO_INITDATA}`" in section("Annotations")


def test_every_refusal_is_listed() -> None:
    rows = section("What is refused")
    (commands,) = re.findall(r"^\| `command.refused` \| (.*?): ", rows, re.MULTILINE)
    assert re.findall(r"`(\w+)`", commands) == list(REFUSED)
    code = "".join((FOLDER / name).read_text() for name in OF_BUNDLES)
    of_bundles = set(re.findall(r'ConfigError\(\s*"((?:bundle|sandbox)\.\w+)"', code))
    assert len(of_bundles) > 7
    assert of_bundles <= set(re.findall(r"`((?:bundle|sandbox)\.\w+)`", rows))


def test_statuses_that_are_named_are_those_of_the_codes() -> None:
    named = re.findall(r"(\d+) ([A-Z]+)[,| ]", section("Exit status"))
    assert len(named) == 3
    assert all(Code[name] == int(number) for number, name in named)
    lowest, highest = min(set(Code) - {Code.OK}), max(Code)
    assert f"| {lowest} to {highest} |" in section("Exit status")
