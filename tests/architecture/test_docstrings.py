"""What docstrings and comments name of this tree is there: modules, tests, files."""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = [
    Path(name)
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
]
TEXTS = {str(path): (ROOT / path).read_text() for path in TRACKED if path.suffix == ".py"}
TOOLS = ("guest-owner", "host-runtime", "measured-boot", "rootfs-builder")
HOMES = {"ccinit": Path("ccinit"), "tests": Path("tests")}
HOMES |= {tool.replace("-", "_"): Path(tool) / "src" / tool.replace("-", "_") for tool in TOOLS}
FOLDERS = "|".join(("docs", "tests", "ccinit", "requirements", *TOOLS))
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w")
MODULE = re.compile(rf"`((?:{'|'.join(HOMES)})\.[\w.]*\w)(?:\(\))?`")
TEST = re.compile(r"`(test_\w*[a-z0-9])`")
PATHS = {str(place) for path in TRACKED for place in (path, path.with_suffix(""), *path.parents)}
PATHS |= {str(path)[: len("docs/decisions/0001")] for path in TRACKED}
PATHS |= {
    *("docs/SEALED_SECRET.md", "docs/specs/acpi_erst.rst"),  # of CoCo's, and of QEMU's
    *("requirements/PLATFORM.toml", "ccinit/shop", "ccinit/log/v1"),  # in a KBS; a rule; a label
}
TESTS = {path.stem for path in TRACKED}
TESTS |= {name for text in TEXTS.values() for name in re.findall(r"def (test_\w+)", text)}
NO_MODULES = re.compile(r"ccinit\.(toml|cmdline|\w+\.twice)")  # files, and a reason


@cache
def is_module(name: str) -> bool:
    """Whether a dotted name is one of a folder, a module, or something that a module defines."""
    first, *rest = name.split(".")
    for count in range(len(rest), 0, -1):
        place, inner = HOMES[first].joinpath(*rest[:count]), rest[count:]
        if text := TEXTS.get(f"{place}.py"):
            return not inner or bool(re.search(rf"\b{inner[0]}\b", text))
        if str(place) in PATHS:
            return not inner
    return NO_MODULES.fullmatch(name) is not None


def lost_names(text: str) -> Iterator[str]:
    yield from (name for name in PATH.findall(text) if name not in PATHS)
    yield from (name for name in MODULE.findall(text) if not is_module(name))
    yield from (name for name in TEST.findall(text) if name not in TESTS)


def remarks(text: str) -> str:
    """Every comment and every text between three quotes."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(
        token.string
        for token in tokens
        if token.type == tokenize.COMMENT or token.string.startswith('"""')
    )


def lost_in(source: str) -> list[str]:
    """What a source names in its remarks; most name nothing, wherever one looks."""
    return list(lost_names(remarks(source))) if any(lost_names(source)) else []


def test_names_in_docstrings_and_comments_are_there() -> None:
    found = {path: lost_in(text) for path, text in TEXTS.items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "remark",
    [
        "`ccinit.errors.NoSuchError`",
        "`ccinit.none`",
        "docs/none.md",
        "docs/decisions/9911",
        "`test_none`'s",
    ],
)
def test_a_name_that_is_not_there_would_be_noticed(remark: str) -> None:
    right = "`ccinit.errors.CcinitError`, `tests.fakes.documents`, `test_tree`, docs/decisions/0011"
    for form in ('"""{}."""\n', "x = 1  # {}.\n"):
        assert lost_in(form.format(right)) == []
        assert lost_in(form.format(remark)) == [remark.strip("`'s")]
    assert lost_in(f'x = "{remark}"\n') == []
