"""A child of the launcher does not outlive it, however early the launcher dies."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import ChildError, DeadlineError
from host_runtime.programs import process
from host_runtime.programs.process import (
    OwnedProcess,
    python_environment,
    wait_for_listener,
)
from host_runtime.programs.socket_folder import open_socket_folder


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
        assert child.wait(60) == 1


def test_child_whose_parent_dies_before_it_is_another_program_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kernel:
        def prctl(self, *_: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(process, "_libc", Kernel())
    with start(tmp_path) as child:
        assert child.wait(60) == -signal.SIGTERM


def test_output_of_a_child_that_complains_without_end_is_cut_off(tmp_path: Path) -> None:
    words = (
        "import os, sys, time; os.write(2, b'x' * {})\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
        "os.write(2, b'y')"
    )
    for length, left in (
        (1 << 20, "x" * (1 << 20)),
        ((1 << 20) + 1, "[1048577 bytes were cut off]\n"),
    ):
        log, is_cut = tmp_path / str(length), tmp_path / f"{length} is cut"
        command = (sys.executable, "-c", words.format(length), str(is_cut))
        with OwnedProcess(command, log=log, environment={}) as child:
            while log.stat().st_size < length:
                child.require_running()
            child.bound_log()
            is_cut.touch()
            assert child.wait(60) == 0
        assert log.read_text() == left + "y"


BINDS = """
import os, signal, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
listener.listen()
signal.pause()
"""


def test_socket_that_has_its_name_is_waited_for_until_somebody_listens(tmp_path: Path) -> None:
    with open_socket_folder() as sockets:
        path, go = sockets / "a socket", tmp_path / "go"
        command = (sys.executable, "-c", BINDS, str(path), str(go))
        with OwnedProcess(command, log=tmp_path / "log", environment={}) as child:
            while not path.exists():
                child.require_running()
            with pytest.raises(DeadlineError) as refused:
                wait_for_listener(path, child, 0.1)
            assert refused.value.reason == "process.path"
            assert f" does not listen on {path}" in refused.value.detail
            go.touch()
            wait_for_listener(path, child, 30)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        with pytest.raises(ChildError):
            wait_for_listener(path, child, 30)


RUN = """
import sys
from host_runtime.programs.process import run
run(("/bin/sh", "-c", 'echo $$ > "$0"; exec sleep 60', sys.argv[1]), environment={})
"""


def test_last_words_of_a_child_that_said_much_are_its_reason(tmp_path: Path) -> None:
    words = "import sys; sys.exit('x' * 5_000_000 + 'no memory for the guest')"
    command = (sys.executable, "-I", "-c", words)
    with OwnedProcess(command, log=tmp_path / "log", environment={}) as child:
        assert child.wait(60) == 1
        with pytest.raises(ChildError) as error:
            child.require_running()
    assert error.value.reason == "process.ended"
    assert error.value.detail.endswith("xxno memory for the guest")
    assert len(error.value.detail) < 2100


def test_child_whose_log_was_removed_runs_and_ends_as_any_other(tmp_path: Path) -> None:
    """Log cleaners remove what they do not know: that is no reason to end a guest."""
    with start(tmp_path) as child:
        (tmp_path / "log").unlink()
        child.bound_log()
        child.require_running()
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
        with pytest.raises(ChildError) as error:
            child.require_running()
    assert error.value.reason == "process.ended"
    assert error.value.detail.startswith(f"sleep ended with -9: cannot read {tmp_path / 'log'}: ")


def test_short_program_does_not_outlive_who_waits_for_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = (sys.executable, "-c", RUN, str(told))
    with subprocess.Popen(command, env=dict(python_environment())) as launcher:
        while not told.exists() or not told.read_text():
            assert launcher.poll() is None
            time.sleep(0.01)
        child = os.pidfd_open(int(told.read_text()))
        try:
            launcher.kill()
            ended, _, _ = select.select([child], [], [], 60)
        finally:
            os.close(child)
    assert ended


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from host_runtime.programs.process import OwnedProcess, run
from measured_boot.command_line.termination import orderly_termination
number = getattr(signal, sys.argv[2])
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has jobs of its own ignore it,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup(1) this one
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), number))
try:
    with orderly_termination():
        if sys.argv[1] == "run":
            run(("/bin/sleep", "60"), environment={})
        else:
            OwnedProcess(("/bin/sleep", "60"), log=Path(os.devnull), environment={}).wait(60)
except (KeyboardInterrupt, SystemExit):
    children = Path("/proc/thread-self/children").read_text()
    print("interrupted", children)
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("how", ["run", "own"])
def test_interrupt_while_a_child_is_started_is_neither_lost_nor_leaves_the_child(
    how: str, number: str
) -> None:
    """Python drops what is raised while it forks; a second SIGTERM would be ignored."""
    done = subprocess.run(
        (sys.executable, "-c", INTERRUPTED, how, number),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(python_environment()),
    )
    assert (done.stdout, done.stderr) == ("interrupted \n", "")


@pytest.fixture
def taking_interrupts() -> Iterator[None]:
    """A process that a shell has started as a job may ignore them, and its children do then."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("taking_interrupts")
def test_child_takes_the_signals_that_its_parent_takes(tmp_path: Path) -> None:
    """They are held back while it is started."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with start(tmp_path) as child:
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
        (blocked,) = (line for line in status.splitlines() if line.startswith("SigBlk"))
        assert int(blocked.split()[1], 16) == sum(1 << (number - 1) for number in before)
        child._process.send_signal(signal.SIGINT)
        assert child.wait(60) == -signal.SIGINT
