"""Bytecode of a job does not depend on where or when it was compiled."""

import io
import json
import marshal
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from rootfs_builder.guest_image.module_compiler import compile_job, compile_module, main

UNCHECKED_HASH = 0b01
LONG_LINES = """\
@property
@staticmethod
def decorated(
    first=1,
    second=(
        2
    ),
): return [
    each
    for each in first
    if each
]
class Thing:
    async def method(self, value):
        try:
            async with (
                self.one() as one,
                self.two(),
            ):
                return (
                    one
                    .start()
                    .stop(
                        value
                        + 1
                    )
                )
        except (
            ValueError,
            TypeError,
        ) as error:
            raise RuntimeError(
                f"{error}"
                f"{value!r}"
            ) from error
        finally:
            match value:
                case {
                    "key": [
                        first
                    ],
                }: del first
"""


def run(folder: Path, *, date: int) -> list[dict[str, str]]:
    return compile_job(describe(folder, date=date))


def describe(folder: Path, *, date: int) -> dict[str, Any]:
    source = folder / "site" / "main.py"
    source.parent.mkdir(parents=True)
    source.write_text("import fast\nVALUE = 'text'\n")
    os.utime(source, (date, date))
    (folder / "site" / "fast.abi3.so").write_text("library")
    return {
        "entries": ["main"],
        "excluded": [],
        "output": str(folder / "out"),
        "roots": [{"path": str(folder / "site"), "nested": True, "target": "/usr/lib/ccinit"}],
    }


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


def test_disk_that_is_full_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = json.dumps(describe(tmp_path, date=0))
    monkeypatch.setattr(sys, "stdin", io.StringIO(job))
    main()
    assert [module["name"] for module in json.loads(capsys.readouterr().out)] == ["fast", "main"]
    bytecode = tmp_path / "out" / "usr/lib/ccinit/main.pyc"
    bytecode.unlink()
    bytecode.symlink_to("/dev/full")
    monkeypatch.setattr(sys, "stdin", io.StringIO(job))
    with pytest.raises(SystemExit, match=f"^{tmp_path / 'out'}: No space left on device$"):
        main()
    assert capsys.readouterr().out == ""


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


def line_of_each_instruction(code: CodeType) -> Iterator[tuple[str, int, int | None]]:
    """Name the lines of a code object and of those within it."""
    for start, end, line in code.co_lines():
        yield from ((code.co_name, place, line) for place in range(start, end))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from line_of_each_instruction(constant)


def columns(code: CodeType) -> set[int | None]:
    """Return the columns of all instructions that have a line."""
    found = {start for line, _, start, _ in code.co_positions() if line is not None}
    return found.union(*(columns(one) for one in code.co_consts if isinstance(one, CodeType)))


def test_columns_are_left_out_and_every_instruction_keeps_its_line() -> None:
    plain = compile(LONG_LINES, "/usr/lib/ccinit/main.py", "exec")
    ours = marshal.loads(compile_module(LONG_LINES.encode(), plain.co_filename)[16:])  # noqa: S302
    assert list(line_of_each_instruction(ours)) == list(line_of_each_instruction(plain))
    assert len(columns(plain)) > 5  # the control
    assert columns(ours) == {None, 0}  # 0 is the compiler's own, for the beginning of a block
