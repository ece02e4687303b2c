"""Sealed logs of many boots stay within one bound: the oldest go, whole, and it is told."""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from host_runtime.oci_runtime import sealed_logs
from host_runtime.oci_runtime.file_lock import locked
from host_runtime.oci_runtime.sealed_logs import SealedLog, sealed_log_name

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MOST = 1000
KIB = 1 << 10


def log_of(folder: Path, name: str, hours: int, *, all_bytes: int = 3000) -> SealedLog:
    path = folder / sealed_log_name(name, NOW + timedelta(hours=hours))
    return SealedLog(path=path, max_bytes=MOST, all_bytes=all_bytes)


def left_by(folder: Path, name: str, hours: int, size: int) -> Path:
    """A log of a boot that is over."""
    path = log_of(folder, name, hours).path
    path.write_bytes(bytes(size))
    return path


@contextmanager
def written_by_another(path: Path) -> Iterator[None]:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_oldest_logs_go_whole_and_are_named(tmp_path: Path) -> None:
    first = left_by(tmp_path, "z-pod", 1, 900)  # by its time, not by its name or how it was touched
    os.utime(first)
    second = left_by(tmp_path, "a", 2, 900)
    third = left_by(tmp_path, "m", 3, 900)
    log, said = log_of(tmp_path, "new", 4), list[str]()
    with log.opened(said.append) as keep:
        assert said == []  # nothing goes for a log that has nothing in it yet
        assert keep(b"x" * 600)
        assert keep(b"y" * 300)
    assert said == [f"dropped the sealed log {first.name}: all together reached their limit"]
    assert {path.name for path in tmp_path.iterdir()} == {second.name, third.name, log.path.name}
    assert log.path.read_bytes() == b"x" * 600 + b"y" * 300


def test_log_that_is_written_stays_and_a_later_one_goes(tmp_path: Path) -> None:
    first, second = left_by(tmp_path, "a", 1, 1500), left_by(tmp_path, "b", 2, 900)
    said: list[str] = []
    with written_by_another(first), log_of(tmp_path, "c", 3).opened(said.append) as keep:
        assert keep(bytes(900))
    assert first.exists()
    assert not second.exists()
    assert len(said) == 1


def test_logs_that_are_all_written_leave_no_room_for_more(tmp_path: Path) -> None:
    first, said = left_by(tmp_path, "a", 1, 2500), list[str]()
    with ExitStack() as stack:
        stack.enter_context(written_by_another(first))
        keep = stack.enter_context(log_of(tmp_path, "b", 2).opened(said.append))
        assert not keep(bytes(600))
    assert said == ["the sealed logs of guests that run have reached the limit of all of them"]
    assert first.stat().st_size == 2500
    with log_of(tmp_path, "c", 3).opened(said.append) as keep:  # once that guest is gone
        assert keep(bytes(600))
    assert not first.exists()


def test_logs_that_are_written_stay_within_the_bound_together(tmp_path: Path) -> None:
    most, bound, said = 8192 * KIB, 18432 * KIB, list[str]()
    logs = [
        SealedLog(path=log_of(tmp_path, name, 1).path, max_bytes=most, all_bytes=bound)
        for name in "abcde"
    ]
    with ExitStack() as stack:
        writing = [stack.enter_context(log.opened(said.append)) for log in logs]
        while writing:  # each in turn, as long as it may
            writing = [keep for keep in writing if keep(bytes(64 * KIB))]
    sizes = [log.path.stat().st_size for log in logs]
    assert bound - 1024 * KIB < sum(sizes) <= bound
    assert said == 5 * ["the sealed logs of guests that run have reached the limit of all of them"]


def test_log_that_is_given_room_is_seen_to_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first piece is written before another process may look at the sizes."""
    is_locked: list[bool] = []

    def write(output: BinaryIO, data: bytes) -> None:
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked.append(False)
        except BlockingIOError:
            is_locked.append(True)
        finally:
            os.close(descriptor)
        output.write(data)

    monkeypatch.setattr(sealed_logs, "_write_all", write)
    with log_of(tmp_path, "a", 1).opened(pytest.fail) as keep:
        assert all(keep(bytes(MOST // 2)) for _ in range(2))
    assert is_locked == [True, False]


def test_finished_logs_count_as_what_they_are(tmp_path: Path) -> None:
    """They take no more room: none has to go for what it might."""
    finished = [left_by(tmp_path, name, 1, 260 * KIB) for name in "abc"]
    path, said = log_of(tmp_path, "new", 2).path, list[str]()
    log = SealedLog(path=path, max_bytes=1024 * KIB, all_bytes=1036 * KIB)
    with log.opened(said.append) as keep:
        assert keep(bytes(256 * KIB))
        assert said == []
        assert keep(b"x")
    assert said == [f"dropped the sealed log {finished[0].name}: all together reached their limit"]


def test_one_log_has_a_limit_of_its_own(tmp_path: Path) -> None:
    said: list[str] = []
    with log_of(tmp_path, "a", 1).opened(said.append) as keep:
        assert keep(bytes(MOST))
        assert not keep(b"x")
    assert said == ["the sealed log has reached its limit: no more is kept"]


def test_what_is_no_log_of_ours_is_never_dropped(tmp_path: Path) -> None:
    others = ("notes.txt", "a.sealed", "a-20261126.sealed", "a-20261126T120000.000000Z.sealed.old")
    for name in others:
        (tmp_path / name).write_bytes(bytes(5000))
    link = tmp_path / sealed_log_name("link", NOW)
    link.symlink_to(tmp_path / "notes.txt")
    said: list[str] = []
    with log_of(tmp_path, "b", 2).opened(said.append) as keep:
        assert keep(bytes(900))
    assert said == []
    assert all((tmp_path / name).stat().st_size == 5000 for name in others)
    assert link.is_symlink()


def test_log_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = left_by(tmp_path, "a", 1, 5)
    with log_of(tmp_path, "a", 1).opened(pytest.fail) as keep, pytest.raises(FileExistsError):
        keep(b"x")
    assert path.read_bytes() == bytes(5)


def test_boot_without_a_log_leaves_no_file(tmp_path: Path) -> None:
    """A Pod that never says anything may be started again for ever, and 16 GiB is many nothings."""
    log = log_of(tmp_path, "a", 1)
    with log.opened(pytest.fail) as keep:
        assert keep(b"")  # as the end of a log that never began
        assert not log.path.exists()
    assert list(tmp_path.iterdir()) == []
    with log.opened(pytest.fail) as keep:
        assert keep(b"x")
    assert log.path.read_bytes() == b"x"


def test_boot_on_a_full_disk_leaves_what_it_wrote_and_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may have room for a name, and an engine starts the Pod again for ever."""
    write, fits = sealed_logs._write_all, [0, 3]

    def write_what_fits(output: BinaryIO, data: bytes) -> None:
        write(output, data[: fits.pop(0)])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sealed_logs, "_write_all", write_what_fits)
    log = log_of(tmp_path, "a", 1)
    while fits:
        assert list(tmp_path.iterdir()) == []
        with log.opened(pytest.fail) as keep, pytest.raises(OSError, match="No space left"):
            keep(b"xxxxx")
    assert log.path.read_bytes() == b"xxx"  # counts for the bound


def test_nobody_else_may_read_a_log(tmp_path: Path) -> None:
    log = log_of(tmp_path, "a", 1)
    umask = os.umask(0)  # as some engines have it
    try:
        with log.opened(pytest.fail) as keep:
            assert keep(b"x")
    finally:
        os.umask(umask)
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_log_gets_room_and_is_made_while_nobody_else_removes_logs(tmp_path: Path) -> None:
    """Two would give the same room away."""
    old = left_by(tmp_path, "old", 1, 900)
    log, kept = log_of(tmp_path, "new", 2, all_bytes=MOST), list[bool]()

    def write() -> None:
        with log.opened(lambda _text: None) as keep:
            kept.append(keep(bytes(600)))

    writing = threading.Thread(target=write)
    with locked(tmp_path):
        writing.start()
        writing.join(0.3)
        assert writing.is_alive()
        assert old.exists()
        assert not log.path.exists()
    writing.join(30)
    assert kept == [True]
    assert not old.exists()


def test_log_is_made_and_locked_at_once_for_whoever_removes_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not locked yet would look finished to them."""
    log, lock = log_of(tmp_path, "a", 1), fcntl.flock
    held: list[bool] = []

    def is_locked(path: Path) -> bool:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def flock(descriptor: int, operation: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            held.append(is_locked(tmp_path))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with log.opened(pytest.fail) as keep:
        assert not is_locked(tmp_path)
        assert keep(b"x")
        assert (is_locked(log.path), is_locked(tmp_path)) == (True, False)
    assert held == [True]
    assert not is_locked(log.path)
