"""Opening inside a root and never outside it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import KernelError
from ccinit.kernel import openat2
from ccinit.kernel.libc import syscall
from ccinit.kernel.openat2 import MAX_ATTEMPTS, open_in_root


@pytest.fixture
def root_fd(tmp_path: Path) -> Iterator[int]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("inside")
    (tmp_path / "file").write_text("outside")
    (root / "climbing").symlink_to("../../file")
    (root / "absolute").symlink_to("/file")
    (root / "host").symlink_to("/etc/hostname")
    (root / "loop").symlink_to("loop")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(root_fd: int, path: str, *, follow_links: bool = True) -> str:
    fd = open_in_root(root_fd, path, os.O_RDONLY, follow_links=follow_links)
    assert not os.get_inheritable(fd)
    with os.fdopen(fd) as stream:
        return stream.read()


@pytest.mark.parametrize(
    "path", ["file", "/file", "../file", "/../../file", "climbing", "absolute"]
)
def test_every_way_to_a_file_ends_inside(root_fd: int, path: str) -> None:
    assert read(root_fd, path) == "inside"


@pytest.mark.parametrize(
    ("path", "number"), [("host", errno.ENOENT), ("loop", errno.ELOOP), ("none", errno.ENOENT)]
)
def test_what_is_not_inside_is_not_found(root_fd: int, path: str, number: int) -> None:
    with pytest.raises(KernelError) as error:
        read(root_fd, path)
    assert (error.value.reason, error.value.errno) == ("kernel.openat2", number)


def test_links_are_refused_on_demand(root_fd: int) -> None:
    assert read(root_fd, "/file", follow_links=False) == "inside"
    with pytest.raises(KernelError) as error:
        read(root_fd, "absolute", follow_links=False)
    assert error.value.errno == errno.ELOOP


def test_file_is_made_with_its_mode(root_fd: int) -> None:
    fd = open_in_root(root_fd, "/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o640)
    assert os.fstat(fd).st_mode & 0o777 & ~0o022 == 0o640 & ~0o022
    os.close(fd)


@pytest.mark.parametrize("refusals", [1, MAX_ATTEMPTS - 1, MAX_ATTEMPTS])
def test_step_up_while_others_rename_is_asked_for_again_but_not_for_ever(
    root_fd: int, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """A neighbour that renames its own files without pause stops nobody."""
    left = refusals

    def counted(*arguments: Any, operation: str, target: str) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            raise KernelError(errno.EAGAIN, operation, target)
        return syscall(*arguments, operation=operation, target=target)

    monkeypatch.setattr(openat2, "syscall", counted)
    if refusals < MAX_ATTEMPTS:
        assert read(root_fd, "climbing") == "inside"
        return
    with pytest.raises(KernelError) as caught:
        read(root_fd, "climbing")
    assert (caught.value.errno, left) == (errno.EAGAIN, 0)


def test_other_refusals_are_final(root_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(*arguments: Any, operation: str, target: str) -> int:
        asked.append(target)
        return syscall(*arguments, operation=operation, target=target)

    monkeypatch.setattr(openat2, "syscall", counted)
    with pytest.raises(KernelError) as caught:
        read(root_fd, "absent")
    assert (caught.value.errno, asked) == (errno.ENOENT, ["absent"])
