"""Only processes that have the very file open are killed, and never the one that asks."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_runtime.oci_runtime import held_file
from host_runtime.oci_runtime.held_file import kill_holders
from tests.fakes.machine.scarcity import count_descriptors


@contextmanager
def holder_of(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with path.open("a") as file, subprocess.Popen(("sleep", "60"), stdin=file) as process:
        try:
            yield process
        finally:
            process.kill()


def test_those_who_have_inherited_the_file_are_killed_and_nobody_else(tmp_path: Path) -> None:
    machine, other = tmp_path / "machine", tmp_path / "other"
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with holder_of(machine) as first, holder_of(machine) as second, holder_of(other) as stranger:
        with machine.open():  # we have it open, too
            before = count_descriptors()
            kill_holders(link / "machine")
            assert count_descriptors() == before
        assert first.wait() == second.wait() == -signal.SIGKILL
        assert stranger.poll() is None


def test_file_that_has_taken_the_name_of_another_is_not_that_one(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    with holder_of(machine) as holder:
        machine.rename(tmp_path / "gone")
        kill_holders(machine)  # there is none
        machine.touch()
        kill_holders(machine)
        assert holder.poll() is None
        kill_holders(tmp_path / "gone")
        assert holder.wait() == -signal.SIGKILL


def test_file_that_another_mount_namespace_has_under_that_name_is_another(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.touch()
    script = f"mount -t tmpfs other {tmp_path} && exec 3>{machine} && echo ready && exec sleep 60"
    command = ("unshare", "--mount", "sh", "-c", script)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as stranger,
        holder_of(machine) as holder,
    ):
        try:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == b"ready\n"
            kill_holders(machine)
            assert holder.wait() == -signal.SIGKILL
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_process_that_has_got_the_number_of_a_holder_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tmp_path / "machine"
    told = list[int]()
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _fd, number: told.append(number))
    with holder_of(machine) as holder:
        pidfd_open = os.pidfd_open

        def ends_meanwhile(pid: int) -> int:
            monkeypatch.setattr(held_file, "_has_open", lambda *_: False)
            return pidfd_open(pid)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pidfd_open", ends_meanwhile)
            has_open = held_file._has_open
            kill_holders(machine)
        assert told == []
        monkeypatch.setattr(held_file, "_has_open", has_open)
        kill_holders(machine)
        assert told == [signal.SIGKILL]
        assert holder.poll() is None
