"""A child process that is ours: started with its output in a file, ended by its own pid.

No shell, no process groups, no lookup by name. A child gets SIGTERM when its parent dies, so a
killed launcher leaves nothing behind. What to run is left to the caller.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from ccinit.errors import ChildError, DeadlineError

_PR_SET_PDEATHSIG: Final = 1
_STOP_SECONDS: Final = 5.0
_LOG_TAIL_BYTES: Final = 2000
_MAX_LOG_BYTES: Final = 1 << 20
_ACCEPTS_CONNECTIONS: Final = b"00010000"  # in the table of a namespace's Unix sockets
_INTERRUPTING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None)


class OwnedProcess:
    """One running child; a context manager that ends it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = _program_name(command)
        self._log = log
        with log.open("ab") as output:
            self._process = _start(
                command,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=folder,
                pass_fds=tuple(descriptors),
                start_new_session=True,  # a Ctrl-C is for the launcher, which ends its children
            )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code (negative: ended by that signal), or None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Return the exit code once it has ended.

        Raises:
            DeadlineError: `process.wait`: it still runs after `seconds`.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise DeadlineError("process.wait", f"{self.name} runs after {seconds} s") from error

    def require_running(self) -> None:
        """Check that the child is there.

        Raises:
            ChildError: `process.ended`: it is not; the text holds the end of its output.
        """
        code = self.exit_code()
        if code is not None:
            raise ChildError("process.ended", f"{self.name} ended with {code}: {self.log_tail()}")

    def log_tail(self) -> str:
        """Return the end of what the child has printed, for an error's text."""
        try:
            return end_of_log(self._log) or "it printed nothing"
        except OSError as error:  # removed, for example; the child's error matters more
            return f"cannot read {self._log}: {error.strerror}"

    def bound_log(self) -> None:
        """Truncate the child's output when it gets long: others may control what it prints.

        If that fails, the child goes on, and the next call tries again.
        """
        with suppress(OSError):
            length = self._log.stat().st_size
            if length > _MAX_LOG_BYTES:
                with self._log.open("ab") as log:  # as the child has it: both write at its end
                    log.truncate(0)
                    log.write(f"[{length} bytes were cut off]\n".encode())

    def stop(self) -> None:
        """End the child: ask, then kill; always leaves it reaped."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.exit_code() is not None:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def end_of_log(path: Path) -> str:
    """Return the end of a log, without reading all of it; "" if it is empty."""
    with path.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
        return log.read(_LOG_TAIL_BYTES).decode("utf-8", "replace").strip()


def run(command: Sequence[str], *, environment: Mapping[str, str], seconds: float = 60.0) -> bytes:
    """Run a short program, which never outlives this process, and return what it printed.

    Raises:
        ChildError: `process.failed`: it ended with another code than 0.
        DeadlineError: `process.wait`: it did not end in time, and was killed.
    """
    name = _program_name(command)
    pipe = subprocess.PIPE
    with _start(command, stdout=pipe, stderr=pipe, env=dict(environment)) as process:
        try:
            output, complaints = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise DeadlineError("process.wait", f"{name} did not end in {seconds} s") from error
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        text = (complaints or output).decode("utf-8", "replace").strip()
        code = process.returncode
        raise ChildError("process.failed", f"{name} ended with {code}: {text[-800:]}")
    return output


def python_command(module: str) -> tuple[str, ...]:
    """Return the first words of a command that runs one of our own modules."""
    return (sys.executable, "-m", module)


def python_environment() -> Mapping[str, str]:
    """Return the environment in which our own modules are found as in this process."""
    return {"PYTHONPATH": ":".join(sys.path), "LC_ALL": "C.UTF-8"}


def wait_for_listener(path: Path, process: OwnedProcess, seconds: float) -> None:
    """Wait until `process` listens on the Unix socket `path`, which has its name a little before.

    It is not connected to: that could be the one connection that `process` waits for.

    Raises:
        ChildError: the process ended first.
        DeadlineError: `process.path`: it does not listen after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not _listens(process.pid, path):
        process.require_running()
        if time.monotonic() > deadline:
            raise DeadlineError("process.path", f"{process.name} does not listen on {path}")
        time.sleep(0.01)


def _listens(pid: int, path: Path) -> bool:
    """Whether there is such a socket in the network namespace of a process; proc_pid_net(5)."""
    with suppress(OSError):  # the process has ended
        for line in Path(f"/proc/{pid}/net/unix").read_bytes().splitlines():
            words = line.split(maxsplit=7)
            if words[7:] == [os.fsencode(path)] and words[3] == _ACCEPTS_CONNECTIONS:
                return True
    return False


def _program_name(command: Sequence[str]) -> str:
    """Return the program's name; a command of a tools tree names it after its loader."""
    if "--argv0" in command:
        return command[list(command).index("--argv0") + 1]
    return Path(command[0]).name


def _start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that gets SIGTERM when this process dies.

    Signals that interrupt wait until it is started, and end it then: Python forks here, and drops
    what a handler raises meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = None
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTING)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=partial(_die_with, os.getpid(), before),  # noqa: PLW1509 - no threads here
            **options,
        )
    finally:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            if child is not None:
                child.kill()
                child.wait()
            raise
    return child


def _die_with(parent: int, mask: Iterable[int]) -> None:
    """Get SIGTERM when `parent` dies, even between fork and exec; end if it is dead already."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until exec it is the parent's handler
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
