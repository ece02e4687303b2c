"""Whose a vTPM is, and what is said if that cannot be told."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.machine.swtpm import VirtualTpm
from host_runtime.programs.tools import Tools
from tests.fakes.machine.scarcity import count_descriptors


@pytest.fixture
def tpm(tmp_path: Path) -> VirtualTpm:
    """One that looks whole."""
    (tmp_path / "ak.der").touch()
    (tmp_path / "state").mkdir()
    (tmp_path / "state/tpm2-00.permall").touch()
    made = VirtualTpm(folder=tmp_path)
    made.require_whole()
    return made


def start(tpm: VirtualTpm) -> None:
    tpm.start(Tools(), control_socket=tpm.folder / "socket", log=tpm.folder / "log")


def test_vtpm_of_a_guest_that_runs_is_busy(tpm: VirtualTpm) -> None:
    with (tpm.folder / "lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError) as refused:
            start(tpm)
    assert refused.value.reason == "tpm.busy"


def test_vtpm_that_cannot_be_locked_is_no_other_guests(
    tpm: VirtualTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks, say: nobody would find that guest."""

    def refuse(_descriptor: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = count_descriptors()
    with pytest.raises(ConfigError, match="No locks available") as refused:
        start(tpm)
    assert refused.value.reason == "tpm.lock"
    assert count_descriptors() == before


def test_socket_that_swtpm_cannot_take_is_refused_before_it_starts(tpm: VirtualTpm) -> None:
    socket = tpm.folder / "run,1" / "socket"
    with pytest.raises(ConfigError) as refused:
        tpm.start(Tools(), control_socket=socket, log=tpm.folder / "log")
    assert refused.value.reason == "tpm.sockets"
    assert refused.value.detail.startswith(f"{socket}: swtpm takes no comma: ")
    with (tpm.folder / "lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and nothing holds the vTPM
