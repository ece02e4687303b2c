"""Secrets as files: opened, read, and overwritten by removing them."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.kernel.efi_secret import open_secrets, read_secret, wipe_secrets
from tests.fakes.machine.scarcity import count_descriptors

NAMES = [f"00000000-0000-0000-0000-{number:012}" for number in range(3)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"secret of " + name.encode())
    return tmp_path


def open_and_close(directory: str) -> None:
    with open_secrets(directory):
        pass


def reason_of(wanted: str, directory: Path) -> str:
    step = open_and_close if wanted == "open" else wipe_secrets
    with pytest.raises(CcinitError) as caught:
        step(str(directory))
    return caught.value.reason


def test_every_secret_is_open_by_name_and_closed_again(tree: Path) -> None:
    before = count_descriptors()
    with open_secrets(str(tree)) as fds:
        assert sorted(fds) == NAMES
        assert [read_secret(fds[name], 64) for name in NAMES] == [
            b"secret of " + name.encode() for name in NAMES
        ]
        assert all(not os.get_inheritable(fd) for fd in fds.values())
    assert count_descriptors() == before


def test_wiping_leaves_nothing_and_may_be_done_twice(tree: Path) -> None:
    wipe_secrets(str(tree))
    assert list(tree.iterdir()) == []
    wipe_secrets(str(tree))


def test_secret_that_stays_is_told_and_the_others_are_wiped(tree: Path) -> None:
    (tree / "0").mkdir()
    assert reason_of("wipe", tree) == "kernel.efi_secret_wipe"
    assert [entry.name for entry in tree.iterdir()] == ["0"]


def test_secret_that_comes_back_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "unlink", lambda _path: None)
    assert reason_of("wipe", tree) == "tee.io"


def test_tree_that_is_not_there_is_told(tmp_path: Path) -> None:
    for wanted in ("open", "wipe"):
        assert reason_of(wanted, tmp_path / "absent") == "kernel.efi_secret_list"


def test_link_is_not_followed(tree: Path) -> None:
    before = count_descriptors()
    (tree / "z").symlink_to("/etc/passwd")
    assert reason_of("open", tree) == "kernel.efi_secret_open"
    assert count_descriptors() == before


def test_more_files_than_the_driver_makes_are_refused(tree: Path) -> None:
    for number in range(61):
        (tree / f"more-{number}").touch()
    with open_secrets(str(tree)) as fds:
        assert len(fds) == 64
    (tree / "one too many").touch()
    assert reason_of("open", tree) == "tee.io"


@pytest.mark.parametrize("size", [63, 64, 65])
def test_secret_is_capped(tree: Path, size: int) -> None:
    (tree / NAMES[0]).write_bytes(b"s" * size)
    with open_secrets(str(tree)) as fds:
        if size <= 64:
            assert read_secret(fds[NAMES[0]], 64) == b"s" * size
            return
        with pytest.raises(CcinitError) as refused:
            read_secret(fds[NAMES[0]], 64)
    assert refused.value.reason == "tee.io"
