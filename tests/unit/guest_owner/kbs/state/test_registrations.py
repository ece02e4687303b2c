"""A folder of registrations: parsed once, and never taken for what it was."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from guest_owner.kbs.state.registrations import Folder

HOUR_NS = 3600 * 10**9


@pytest.fixture
def parsed() -> list[str]:
    """The names of what was parsed, in this order."""
    return []


@pytest.fixture
def folder(tmp_path: Path, parsed: list[str]) -> Folder[bytes]:
    def parse(name: str, data: bytes) -> bytes:
        parsed.append(name)
        return data

    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_bytes(name.encode())
    return Folder(tmp_path, ".txt", 100, parse)


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, time.time_ns() + HOUR_NS)


def set_clock(monkeypatch: pytest.MonkeyPatch, now_ns: int) -> None:
    monkeypatch.setattr("guest_owner.kbs.state.registrations.time.time_ns", lambda: now_ns)


@pytest.mark.usefixtures("an_hour_later")
def test_file_that_stays_as_it_is_is_parsed_once(folder: Folder[bytes], parsed: list[str]) -> None:
    assert [folder.read() for _ in range(3)] == [(b"a", b"b")] * 3
    assert parsed == ["a", "b"]


def write_in_place(path: Path) -> None:
    path.write_bytes(b"c")


def write_in_place_at_the_same_time(path: Path) -> None:
    about = path.stat()
    path.write_bytes(b"c")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def replace_by_an_older_one(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"c")
    os.utime(other, ns=(0, 0))
    other.replace(path)


@pytest.mark.parametrize(
    "change", [write_in_place, write_in_place_at_the_same_time, replace_by_an_older_one]
)
@pytest.mark.usefixtures("an_hour_later")
def test_changed_file_is_parsed_again_and_no_other(
    folder: Folder[bytes], parsed: list[str], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder.read()
    wait_for_another_tick(tmp_path)
    change(tmp_path / "a.txt")
    assert [folder.read() for _ in range(2)] == [(b"c", b"b")] * 2
    assert parsed == ["a", "b", "a"]


def wait_for_another_tick(folder: Path) -> None:
    """Until the clock of the file system has gone on, as in the hour that did not pass here."""
    probe = folder / ".probe"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        os.utime(probe)


def test_file_that_has_just_changed_is_read_again(
    folder: Folder[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes within one tick of the file system's clock leave the same times."""
    changed = tmp_path / "a.txt"
    stat, stopped = Path.stat, changed.stat()

    def coarse(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        return stopped if path == changed else stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", coarse)
    set_clock(monkeypatch, stopped.st_ctime_ns + 10**9)
    assert folder.read() == (b"a", b"b")
    changed.write_bytes(b"c")
    assert folder.read() == (b"c", b"b")


@pytest.mark.usefixtures("an_hour_later")
def test_removed_file_counts_no_longer_and_a_new_one_does(
    folder: Folder[bytes], tmp_path: Path
) -> None:
    folder.read()
    (tmp_path / "a.txt").unlink()
    (tmp_path / "c.txt").write_bytes(b"c")
    assert folder.read() == (b"b", b"c")


@pytest.mark.usefixtures("an_hour_later")
def test_folder_that_was_read_is_refused_as_one_that_was_not(
    folder: Folder[bytes], tmp_path: Path
) -> None:
    folder.read()
    (tmp_path / "a.txt").write_bytes(bytes(101))
    with pytest.raises(ConfigError) as too_large:
        folder.read()
    (tmp_path / "a.txt").write_bytes(b"a")
    assert folder.read() == (b"a", b"b")
    (tmp_path / "stray").touch()
    with pytest.raises(ConfigError) as stray:
        folder.read()
    assert (too_large.value.reason, stray.value.reason) == ("state.size", "state.stray")
