"""The initrd of guest tests holds what they import: else a boot ends before the first of them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.vm.harness import systemd_files
from tests.vm.harness.initrd import SOURCE_FILES, SOURCES


def imported(path: Path) -> Iterator[Path]:
    """Yield the files of tests that a file imports in any case; the host's half comes later."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
            module = Path((node.module or "").replace(".", "/"))
            names = (module / f"{alias.name}.py" for alias in node.names)
            yield from (names if module.is_dir() else [module.with_suffix(".py")])


def test_initrd_holds_what_guest_tests_import() -> None:
    trees = (*SOURCES, *systemd_files.SOURCES)
    carried = {path for tree in trees for path in Path(tree).rglob("*.py")}
    carried |= set(map(Path, SOURCE_FILES))
    tests = [path for path in carried if path.parts[0] == "tests" and path.suffix == ".py"]
    needed = {each for path in tests for each in imported(path)}
    assert Path("tests/fakes/machine/owned.py") in needed
    assert needed <= carried
