"""What other processes do meanwhile with the folders of containers, and the record of one."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_state import ContainerRecord
from host_runtime.oci_runtime.container_store import ContainerStore

RECORD = ContainerRecord(id="a", bundle="/b", annotations={}, created="now")


def hold(path: Path) -> int:
    """Lock as another process would: a lock belongs to an open file, not to a process."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def make_anew_meanwhile(
    monkeypatch: pytest.MonkeyPatch, store: ContainerStore, then: Callable[[], object]
) -> None:
    """Once somebody waits, another has container `a` removed and made anew, and lets go."""

    def remove_and_make_anew(_seconds: float) -> None:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        store.remove(Container(folder=store.root / "a"))
        with store.new(RECORD):
            pass
        then()

    monkeypatch.setattr(time, "sleep", remove_and_make_anew)
