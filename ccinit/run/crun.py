"""Driving `crun`: one short-lived program per operation, none while a container runs.

Scope: create, start, delete and exec by the command line of crun 1.21, and the bundle it reads.
After `create`, the container's first process is a child of PID 1, owned through a pidfd like every
other; so is a program that `exec` adds. Thus they are signalled, awaited and counted without
`crun`. Left to others: the spec (`ccinit.run.spec`), when to do what (`ccinit.run.supervisor`). The
caller must be PID 1 or a subreaper; /proc and a cgroup2 tree at /sys/fs/cgroup must be mounted.

`crun`'s output goes to the guest's log, and its last line becomes the detail of an error: both are
for the owner, never for the host. Bundle and state lie on a tmpfs, because the spec contains
secrets that are given as variables.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Final

from ccinit.errors import CcinitError, ChildError, DeadlineError, FormatError, KernelError
from ccinit.formats.encoding.json_text import encode_json
from ccinit.kernel.event_loop import Interrupted, TaskGroup, deadline
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.process import Process, adopt, keeping_orphans, spawn
from ccinit.kernel.terminal import listen_for_terminal, receive_terminal
from ccinit.run.stdio import OutputSink, drain, open_outputs, pump
from ccinit.values import frozen

PROGRAM: Final = ("/usr/bin/crun",)
OPERATION_SECONDS: Final = 60.0  # 0.1 s under emulation; this ends a hang
INTERRUPTED_SECONDS: Final = 10.0  # for an operation that nobody waits for any more
MAX_PID_BYTES: Final = 16
_LAST_BYTES: Final = 240  # of crun's output, which may quote names from an image
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin"}
_LOG_FD: Final = 3
_numbers: Final = count()  # a file for each exec: several may be under way


@frozen
class Crun:
    """How to call `crun`.

    Attributes:
        state_dir: on a tmpfs; holds crun's own state, the bundles and pid files. Exists.
        log: takes what crun says about itself.
        program: the command, and the arguments that precede the operation's.
    """

    state_dir: str
    log: OutputSink
    program: tuple[str, ...] = PROGRAM

    async def create(
        self, name: str, spec: Mapping[str, object], *, stdout: int, stderr: int
    ) -> Process:
        """Make a container and return its first process, which waits for `start`.

        Args:
            name: of the container; a DNS label.
            spec: `config.json` as a value.
            stdout: write end for the container; the caller closes its copy afterwards.
            stderr: likewise.

        Raises:
            ChildError: `crun.create`; nothing is left behind.
            FormatError: `crun.pid`, crun wrote no valid pid; likewise.
            DeadlineError: `crun.deadline`.
            KernelError: the kernel refused.
        """
        try:
            bundle = self._write_bundle(name, spec)
            pid_path = f"{bundle}/pid"
            arguments = ("create", f"--bundle={bundle}", f"--pid-file={pid_path}", name)
            await self._run(arguments, {1: stdout, 2: stderr})
            return adopt(_read_pid(pid_path))
        except BaseException:
            await self.clear(name)
            raise

    async def start(self, name: str) -> None:
        """Let the container's program run.

        Raises:
            ChildError: `crun.start`.
        """
        await self._run(("start", name), {})

    async def delete(self, name: str) -> None:
        """Kill what is left of a container and forget it; a missing one is not an error.

        crun kills every process of its cgroup: in a shared PID namespace, nothing else would.
        """
        try:
            await self._run(("delete", "--force", name), {})
        finally:
            self._remove_bundle(name)  # it contains secrets

    async def clear(self, name: str) -> None:
        """Delete what a failed step has left behind; if that fails, too, only log it."""
        try:
            await self.delete(name)
        except CcinitError as error:
            self.log(f"{name} is not cleared away: {error}\n".encode())

    async def exec(
        self, name: str, process: Mapping[str, object], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        """Start another program in a running container and return it.

        It is a child of PID 1, as the container's first process is.

        Args:
            name: of the container.
            process: the spec's `process` object; the container's seccomp profile applies too.
            stdin: descriptor for the program.
            stdout: likewise.
            stderr: likewise.

        Raises:
            ChildError: `crun.exec`, it could not be started.
            DeadlineError: `crun.deadline`.
            KernelError: the kernel refused.
        """
        return await self._exec(name, process, (), {0: stdin, 1: stdout, 2: stderr})

    async def exec_on_terminal(
        self, name: str, process: Mapping[str, object]
    ) -> tuple[Process, int]:
        """Start another program on a terminal of the container; see `exec`.

        Args:
            name: of the container.
            process: as for `exec`, with `terminal` true.

        Returns:
            The program, and the terminal's master end, which the caller has to close.
        """
        path = f"{self.state_dir}/console-{next(_numbers)}"
        with listen_for_terminal(path) as listener:
            running = await self._exec(name, process, (f"--console-socket={path}",), {})
            try:
                return running, receive_terminal(listener)
            except BaseException:
                running.kill()
                running.disown()  # do not wait: it may hang, and the wait be interrupted
                raise

    async def _exec(
        self,
        name: str,
        process: Mapping[str, object],
        options: tuple[str, ...],
        fds: Mapping[int, int],
    ) -> Process:
        bundle = f"{self.state_dir}/bundles/{name}"
        number = next(_numbers)
        path, pid_path = f"{bundle}/exec-{number}", f"{bundle}/exec-pid-{number}"
        files = (f"--process={path}", f"--pid-file={pid_path}")
        try:
            _write_private(path, encode_json(process))
            with keeping_orphans():
                try:
                    await self._run(("exec", "--detach", *options, *files, name), fds)
                    return adopt(_read_pid(pid_path))
                except BaseException:
                    _end_started(pid_path)
                    raise
        finally:
            _remove(path)
            _remove(pid_path)

    def _command(self) -> tuple[str, ...]:
        return (*self.program, "--cgroup-manager=cgroupfs", f"--root={self.state_dir}/crun")

    async def _run(self, arguments: tuple[str, ...], fds: Mapping[int, int]) -> None:
        """Run one operation to its end, and log its output."""
        (pipe,) = open_outputs(1)
        words = _OutputTail(self.log)
        command = (*self._command(), f"--log=/proc/self/fd/{_LOG_FD}", *arguments)
        given = {_LOG_FD: pipe.writer, 1: pipe.writer, 2: pipe.writer} | dict(fds)
        try:
            try:
                process = spawn(command, _ENVIRONMENT, given)
            finally:
                os.close(pipe.writer)
            await self._attend(process, pipe.reader, words)
            # a container that waits for its start holds the pipe, too, so no end of file will come
            drain(pipe.reader, words)
        finally:
            os.close(pipe.reader)
        if process.status is None or not process.status.is_success():
            detail = f"{arguments[-1]}: {process.status}{words.text}"
            raise ChildError(f"crun.{arguments[0]}", detail)

    async def _attend(self, process: Process, reader: int, sink: OutputSink) -> None:
        """Wait for the operation's end; if interrupted, or if the wait fails, wait again.

        If crun were killed half-way, nobody could find and end what it had begun.
        """
        async with TaskGroup() as group:
            talking = group.start(pump(reader, sink), "crun log")
            try:
                try:
                    await _wait(process, OPERATION_SECONDS)
                except (Interrupted, KernelError):
                    with suppress(DeadlineError):
                        await _wait(process, INTERRUPTED_SECONDS)
                    raise
            finally:
                process.kill()
                try:
                    await process.wait()
                finally:
                    process.disown()
                talking.cancel()

    def _write_bundle(self, name: str, spec: Mapping[str, object]) -> str:
        bundle = f"{self.state_dir}/bundles/{name}"
        try:
            os.makedirs(bundle, 0o700, exist_ok=True)
        except OSError as error:
            raise kernel_error(error, "mkdir", bundle) from error
        _write_private(f"{bundle}/config.json", encode_json(spec))
        return bundle

    def _remove_bundle(self, name: str) -> None:
        bundle = f"{self.state_dir}/bundles/{name}"
        try:
            for entry in os.listdir(bundle):
                os.unlink(f"{bundle}/{entry}")
            os.rmdir(bundle)
        except FileNotFoundError:
            return
        except OSError as error:
            raise kernel_error(error, "unlink", bundle) from error


async def _wait(process: Process, seconds: float) -> None:
    async with deadline(seconds, "crun.deadline"):
        await process.wait()


def _end_started(pid_path: str) -> None:
    """Kill the program of an `exec` that failed, could not be owned, or was interrupted."""
    try:
        program = adopt(_read_pid(pid_path))
    except CcinitError:
        return  # there is none, or it has ended
    program.kill()
    program.disown()


class _OutputTail:
    """A sink that passes everything on and keeps the last bytes."""

    def __init__(self, sink: OutputSink) -> None:
        self._sink = sink
        self._end = b""

    def __call__(self, data: bytes) -> None:
        self._end = (self._end + data)[-_LAST_BYTES:]
        self._sink(data)

    @property
    def text(self) -> str:
        """Return the last line after a colon; printable, and empty if there was no output."""
        lines = self._end.decode(errors="replace").splitlines()
        line = "".join(letter for letter in lines[-1] if letter.isprintable()) if lines else ""
        return f": {line}" if line else ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise kernel_error(error, "unlink", path) from error


def _write_private(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise kernel_error(error, "write", path) from error


def _read_pid(path: str) -> int:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_PID_BYTES)
    except OSError as error:
        raise kernel_error(error, "read", path) from error
    if not data.isdigit() or int(data) <= 1:
        raise FormatError("crun.pid", "not a pid")
    return int(data)
