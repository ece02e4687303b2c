"""What everyone in the guest may read, though PID 1 hides what it makes."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.boot.directories import make_directory, write_file
from ccinit.errors import KernelError


@pytest.fixture(autouse=True)
def _as_pid1() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_directory_and_file_have_the_mode_that_was_said(tmp_path: Path) -> None:
    place = Path(make_directory(f"{tmp_path}/place", 0o711))
    write_file(f"{place}/hosts", "127.0.0.1 localhost\n")
    (file,) = place.iterdir()
    assert file.read_text() == "127.0.0.1 localhost\n"
    assert [stat.S_IMODE(one.stat().st_mode) for one in (place, file)] == [0o711, 0o644]


def test_what_the_kernel_refuses_is_told_by_its_operation(tmp_path: Path) -> None:
    for step in (
        lambda: make_directory(f"{tmp_path}/none/place", 0o711),
        lambda: write_file(f"{tmp_path}/none/hosts", ""),
    ):
        with pytest.raises(KernelError) as refused:
            step()
        assert refused.value.reason in {"kernel.mkdir", "kernel.write"}
