"""A child that is the launcher's: it does not outlive it, however early that dies."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_runtime import process
from host_runtime.process import OwnedProcess


@pytest.fixture(autouse=True)
def handler_as_before() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as a container's life has one
    yield
    signal.signal(signal.SIGTERM, before)


def start(folder: Path) -> OwnedProcess:
    return OwnedProcess(("/bin/sleep", "60"), log=folder / "log", environment={})


def test_child_of_a_parent_that_lives_runs(tmp_path: Path) -> None:
    with start(tmp_path) as child:
        child.require_running()
    assert child.exit_code() == -signal.SIGTERM


def test_child_whose_parent_died_before_it_could_ask_for_a_signal_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with start(tmp_path) as child:
        assert child.wait(10) == 1


def test_child_whose_parent_dies_before_it_is_another_program_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernel:
        def prctl(self, *_: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(process, "_libc", Kernel())
    with start(tmp_path) as child:
        assert child.wait(10) == -signal.SIGTERM


def test_output_of_a_child_that_complains_without_end_is_cut_off(tmp_path: Path) -> None:
    words = "import os, time; os.write(2, b'x' * {}); time.sleep(1); os.write(2, b'y')"
    for length, left in (
        (1 << 20, "x" * (1 << 20)),
        ((1 << 20) + 1, "[1048577 bytes were cut off]\n"),
    ):
        log = tmp_path / str(length)
        command = (sys.executable, "-c", words.format(length))
        with OwnedProcess(command, log=log, environment={}) as child:
            while log.stat().st_size < length:
                child.require_running()
            child.bound_log()
            assert child.wait(10) == 0
        assert log.read_text() == left + "y"
