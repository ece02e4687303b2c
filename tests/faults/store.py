"""Results and report as files below `build/faults`, and which state of the tree they belong to."""

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.marks import all_row_tests
from tests.faults.report import make_report
from tests.faults.results import Result, Results, from_json, merge, to_json
from tests.faults.table import read_table

FOLDER: Final = Path("build/faults")
_LIST: Final = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")


def digest_of_tree(root: Path) -> str:
    """Return SHA-256 over names, kinds and contents of all files that git has or would take.

    A commit without a change has the same; whatever a test could be given to read has not.

    Raises:
        OSError, subprocess.CalledProcessError: there is no git here.
    """
    listed = subprocess.run(_LIST, cwd=root, capture_output=True, check=True).stdout
    whole = hashlib.sha256()
    for name in sorted(set(filter(None, listed.split(b"\0")))):
        path = root / os.fsdecode(name)
        if path.is_symlink():
            kind, content = b"link", os.fsencode(path.readlink())
        elif path.is_file():
            kind, content = b"%o" % (path.stat().st_mode & 0o111), path.read_bytes()
        else:
            continue  # deleted
        for part in (name, kind, content):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


def add_results(folder: Path, tree: str, tests: Mapping[str, Result]) -> Results:
    """Merge a run's results into those of earlier runs of the same tree, atomically.

    Args:
        folder: of the results; made if absent.
        tree: as `digest_of_tree`.
        tests: by node id.
    """
    with _exclusive(folder):
        merged = merge(_read(folder), tree, tests)
        _replace(folder / "results.json", to_json(merged))
    return merged


def write_report(root: Path, folder: Path) -> dict[str, Any]:
    """Judge every row by what is recorded of this very tree, and write `report.json`, atomically.

    Raises:
        OSError, subprocess.CalledProcessError: there is no git here.
    """
    tree = digest_of_tree(root)
    with _exclusive(folder):
        results = merge(_read(folder), tree, {})
        report = make_report(read_table(), all_row_tests(root), results)
        _replace(folder / "report.json", json.dumps(report, indent=1) + "\n")
    return report


def _read(folder: Path) -> Results | None:
    path = folder / "results.json"
    return from_json(path.read_text()) if path.exists() else None


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Runs side by side add to the same results."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
