"""What was checked stays PID 1's, whoever reads it next."""

import os
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.pull.erofs.handover import lend, seal, share_directory
from tests.fakes.machine.scarcity import count_descriptors

OURS = os.geteuid()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "image"
    made.mkdir(mode=0o755)
    for name in ("layer-0.tar", "layer-1.tar"):
        (made / name).write_bytes(b"tar")
        (made / name).chmod(0o666)
    return made


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Whose group was given what, by its name; it takes a right that tests need not have."""
    made: list[tuple[str, int]] = []

    def chown(path: str, uid: int, gid: int) -> None:
        assert uid == OURS
        made.append((Path(path).name, gid))

    def fchown(fd: int, uid: int, gid: int) -> None:
        chown(str(Path(f"/proc/self/fd/{fd}").readlink()), uid, gid)

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "fchown", fchown)
    return made


def test_files_that_are_lent_can_be_read_and_neither_changed_nor_replaced(
    directory: Path, changes: list[tuple[str, int]]
) -> None:
    lend(str(directory), ("layer-0.tar",), 990)
    assert changes == [("image", 990), ("layer-0.tar", 990)]
    assert (mode(directory), mode(directory / "layer-0.tar")) == (0o1730, 0o440)
    assert mode(directory / "layer-1.tar") == 0o666


def test_files_that_are_left_are_sealed(directory: Path, changes: list[tuple[str, int]]) -> None:
    seal(str(directory), ("layer-0.tar", "layer-1.tar"))
    assert changes == [("image", OURS), ("layer-0.tar", OURS), ("layer-1.tar", OURS)]
    assert mode(directory) == 0o700
    assert [mode(path) for path in directory.iterdir()] == [0o400, 0o400]


def test_shared_directory_takes_files_and_shows_none(
    directory: Path, changes: list[tuple[str, int]]
) -> None:
    share_directory(str(directory), 992)
    assert (changes, mode(directory)) == ([("image", 992)], 0o1730)


def second_name(path: Path) -> None:
    path.hardlink_to(path.with_name("layer-1.tar"))


def other_place(path: Path) -> None:
    path.symlink_to(path.with_name("layer-1.tar"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(second_name, "pull.file", id="second-name"),
        pytest.param(Path.mkdir, "pull.file", id="directory"),
        pytest.param(os.mkfifo, "pull.file", id="pipe"),  # without a writer: nobody waits for one
        pytest.param(other_place, "kernel.open", id="link"),
        pytest.param(lambda _path: None, "kernel.open", id="absent"),
    ],
)
@pytest.mark.usefixtures("changes")
def test_what_is_no_plain_file_of_one_name_is_not_taken(
    directory: Path, make: object, reason: str
) -> None:
    assert callable(make)
    seal(str(directory), ("layer-1.tar",))
    make(directory / "odd")
    before = count_descriptors()
    with pytest.raises(CcinitError) as refused:
        seal(str(directory), ("odd",))
    assert refused.value.reason == reason
    assert count_descriptors() == before


@pytest.mark.parametrize("call", ["chown", "fchown"])
@pytest.mark.usefixtures("changes")
def test_change_that_the_kernel_refuses_is_an_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(CcinitError) as refused:
        seal(str(directory), ("layer-0.tar",))
    assert refused.value.reason == f"kernel.{call}"
