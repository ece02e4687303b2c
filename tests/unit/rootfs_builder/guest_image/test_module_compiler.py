"""Bytecode of a job does not depend on where or when it was compiled."""

import marshal
import os
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from rootfs_builder.guest_image.module_compiler import compile_job, compile_module

UNCHECKED_HASH = 0b01


def run(folder: Path, *, date: int) -> list[dict[str, str]]:
    source = folder / "site" / "main.py"
    source.parent.mkdir(parents=True)
    source.write_text("import fast\nVALUE = 'text'\n")
    os.utime(source, (date, date))
    (folder / "site" / "fast.abi3.so").write_text("library")
    return compile_job(
        {
            "entries": ["main"],
            "excluded": [],
            "output": str(folder / "out"),
            "roots": [{"path": str(folder / "site"), "nested": True, "target": "/usr/lib/ccinit"}],
        }
    )


def test_job_names_where_each_file_belongs(tmp_path: Path) -> None:
    assert run(tmp_path, date=1) == [
        {
            "name": "fast",
            "target": "/usr/lib/ccinit/fast.abi3.so",
            "file": f"{tmp_path}/site/fast.abi3.so",
        },
        {
            "name": "main",
            "target": "/usr/lib/ccinit/main.pyc",
            "file": f"{tmp_path}/out/usr/lib/ccinit/main.pyc",
        },
    ]


def test_bytecode_is_the_same_from_another_folder_at_another_time(tmp_path: Path) -> None:
    first, second = (run(tmp_path / name, date=date) for name, date in (("a", 1), ("b", 10**9)))
    assert Path(first[-1]["file"]).read_bytes() == Path(second[-1]["file"]).read_bytes()


def test_bytecode_is_never_checked_and_shows_the_guests_path(tmp_path: Path) -> None:
    data = Path(run(tmp_path, date=1)[-1]["file"]).read_bytes()
    assert int.from_bytes(data[4:8], "little") == UNCHECKED_HASH
    code = marshal.loads(data[16:])  # noqa: S302  # made two lines above
    assert isinstance(code, CodeType)
    assert code.co_filename == "/usr/lib/ccinit/main.py"


def load(source: str) -> dict[str, Any]:
    """Run the bytecode of a module and return its names."""
    data = compile_module(source.encode(), "/usr/lib/ccinit/main.py")
    names: dict[str, Any] = {"__name__": "main"}
    exec(marshal.loads(data[16:]), names)  # noqa: S102, S302  # made in the line above
    return names


def test_docstrings_are_left_out() -> None:
    names = load(
        '"""A module."""\n'
        'class Empty:\n    """A class."""\n'
        'class Whole:\n    """A class."""\n    def method(self):\n        """A method."""\n'
        'async def wait():\n    """A coroutine."""\n    return "text"\n'
    )
    whole = names["Whole"]
    assert names.get("__doc__") is None
    assert [names["Empty"].__doc__, whole.__doc__, whole.method.__doc__] == [None] * 3
    assert names["wait"].__doc__ is None
    assert "text" in names["wait"].__code__.co_consts


def test_assertions_stay_and_lines_keep_their_numbers() -> None:
    names = load('"""A module\nof two lines."""\ndef check(value):\n    assert value\n')
    names["check"](1)
    with pytest.raises(AssertionError) as caught:
        names["check"](0)
    assert caught.traceback[-1].lineno + 1 == 4
