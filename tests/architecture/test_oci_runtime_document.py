"""docs/oci-runtime.md says what the code does."""

import ast
import re
import tomllib
from pathlib import Path

from ccinit import errors
from ccinit.formats.planes.host_rpc import Code
from host_runtime.oci_runtime.cli import REFUSED
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA, PREFIX
from host_runtime.oci_runtime.operator_config import Choice, parse_operator_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/oci-runtime.md").read_text()
TOOLS = ROOT / "host-runtime/src/host_runtime"
FILES = [*TOOLS.glob("oci_runtime/*.py"), *TOOLS.glob("network/*.py")]
ERRORS = {name for name in vars(errors) if name.endswith("Error")}
MALFORMED = {"FormatError", "LimitExceededError"}
CRI_OF_1, CRI_OF_2 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
READ_BY_NAME = {"bundle.file", "bundle.resolver", "runtime.file", "runtime.…"}
"""Reasons that are passed to who opens a file, or reads its keys."""


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_example_of_the_operators_file_is_read() -> None:
    example = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
    config = parse_operator_config(example.encode())
    assert [image.name for image in config.images] == ["prod", "prod-snp"]


def test_examples_of_containerds_file_pass_our_annotations_on() -> None:
    newer, older = (
        tomllib.loads(one)
        for one in re.findall(r"```toml\n(version = [23]\n.*?)```", PAGE, re.DOTALL)
    )
    assert (newer["version"], older["version"]) == (3, 2)
    runtimes = newer["plugins"][CRI_OF_2]["containerd"]["runtimes"]
    assert runtimes["ccinit"]["pod_annotations"] == [f"{PREFIX}*", COCO_INITDATA]
    assert newer["plugins"] == {CRI_OF_2: older["plugins"][CRI_OF_1]}


def test_every_annotation_has_its_row() -> None:
    rows = re.findall(r"^\| `([^`]+)`.*?\| `(\w+)` \|", section("Annotations"), re.MULTILINE)
    assert dict(rows) == {f"{PREFIX}{choice}": choice for choice in Choice}
    assert f"`{COCO_INITDATA}`" in section("Annotations")


def reasons(path: Path, kinds: set[str]) -> set[str]:
    """The reasons with which a file raises errors of these kinds; a part that varies is `…`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    first = [
        call.args[0]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in kinds and call.args
    ]
    constant = {one.value for one in first if isinstance(one, ast.Constant)}
    varying = {
        re.sub(r"\{.*\}", "…", ast.unparse(one)[2:-1])
        for one in first
        if isinstance(one, ast.JoinedStr)
    }
    return {str(reason) for reason in constant} | varying


def is_covered(reason: str, told: set[str]) -> bool:
    """Whether a row is about a reason: by its name, or for a malformed value by its beginning."""
    return reason in told or f"{reason.partition('.')[0]}.…" in told


def test_every_refusal_is_listed() -> None:
    rows = section("What is refused")
    (commands,) = re.findall(r"^\| `command.refused` \| (.*?): ", rows, re.MULTILINE)
    assert re.findall(r"`(\w+)`", commands) == list(REFUSED)
    cells = re.findall(r"^\| (`.*?`) \| ", rows, re.MULTILINE)
    told = set(re.findall(r"`([a-z_.…]+)`", " ".join(cells)))
    malformed, others = (
        set().union(*(reasons(path, kinds) for path in FILES))
        for kinds in (MALFORMED, ERRORS - MALFORMED)
    )
    assert {"bundle.hooks", "sandbox.state", "runtime.missing", "container.busy"} <= others
    assert sorted(others - told) == []
    assert [reason for reason in sorted(malformed) if not is_covered(reason, told)] == []
    assert sorted(told - malformed - others - READ_BY_NAME) == []


def test_statuses_that_are_named_are_those_of_the_codes() -> None:
    named = re.findall(r"(\d+) ([A-Z]+)[,| ]", section("Exit status"))
    assert len(named) == 3
    assert all(Code[name] == int(number) for number, name in named)
    lowest, highest = min(set(Code) - {Code.OK}), max(Code)
    assert f"| {lowest} to {highest} |" in section("Exit status")
