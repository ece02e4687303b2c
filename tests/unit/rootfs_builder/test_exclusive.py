"""A second builder waits and says so."""

import fcntl
import io
from pathlib import Path

import pytest

from rootfs_builder.exclusive import exclusive
from rootfs_builder.progress import Progress


def test_lock_is_held_inside_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "build" / "image.lock"
    with (
        exclusive(path, Progress(name="x")),
        path.open("w") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_waiting_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    calls: list[int] = []

    def busy_once(_handle: object, operation: int) -> None:
        calls.append(operation)
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", busy_once)
    with exclusive(tmp_path / "image.lock", Progress(name="x", stream=stream)):
        pass
    assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    assert "waiting for another build to finish (image.lock)" in stream.getvalue()
