"""A disk that remembers in which order names changed and what was flushed before."""

import os
import stat
from pathlib import Path

import pytest


def log_disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that grows by `flush file`, `flush folder`, `place` and `remove`."""
    done: list[str] = []
    fsync, replace, rename, unlink = os.fsync, Path.replace, Path.rename, Path.unlink

    def log_flush(descriptor: int) -> None:
        fsync(descriptor)
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("flush folder" if is_folder else "flush file")

    def log_replace(path: Path, target: Path) -> Path:
        done.append("place")
        return replace(path, target)

    def log_rename(path: Path, target: Path) -> Path:
        done.append("place")
        return rename(path, target)

    def log_unlink(path: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as Path
        unlink(path, missing_ok=missing_ok)
        if not path.name.startswith("."):
            done.append("remove")

    monkeypatch.setattr(os, "fsync", log_flush)
    monkeypatch.setattr(Path, "replace", log_replace)
    monkeypatch.setattr(Path, "rename", log_rename)
    monkeypatch.setattr(Path, "unlink", log_unlink)
    return done
