"""Driving `crun`: one short-lived program per operation, none while a container runs.

Scope: create, start, delete and exec by the command line of crun 1.21, and the bundle it reads.
After `create` the container's first process is a child of PID 1, owned through a pidfd like every
other; so it is signalled, awaited and counted without `crun`. Left to others: the spec
(`ccinit.run.spec`), when to do what (`ccinit.run.supervisor`).

The caller must be PID 1 or a subreaper, /proc and a cgroup2 tree at /sys/fs/cgroup must be mounted.
What `crun` writes goes to the guest's log, never further. Bundle and state lie on a tmpfs: the spec
holds secrets given as variables.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccinit.errors import ChildError, FormatError
from ccinit.kernel.event_loop import TaskGroup, deadline
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.process import Process, adopt, spawn
from ccinit.run.stdio import OutputSink, drain, open_pipe, pump

PROGRAM: Final = ("/usr/bin/crun",)
OPERATION_SECONDS: Final = 60.0  # 0.1 s under emulation; this ends a hang
MAX_PID_BYTES: Final = 16
_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin"}
_LOG_FD: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Crun:
    """How `crun` is called.

    Attributes:
        state_dir: on a tmpfs; holds crun's own state, the bundles and pid files. Exists.
        log: takes what crun says about itself.
        program: the command, with what has to precede its options.
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
            stdout: writing end for the container; the caller closes its copy afterwards.
            stderr: likewise.

        Raises:
            ChildError: `crun.create`; nothing is left behind.
            DeadlineError: `crun.deadline`.
            KernelError: the kernel refused.
        """
        bundle = self._write_bundle(name, spec)
        pid_path = f"{bundle}/pid"
        arguments = ("create", f"--bundle={bundle}", f"--pid-file={pid_path}", name)
        try:
            await self._run(arguments, {1: stdout, 2: stderr})
            return adopt(_read_pid(pid_path))
        except BaseException:
            await self.delete(name)
            raise

    async def start(self, name: str) -> None:
        """Let the container's program run.

        Raises:
            ChildError: `crun.start`.
        """
        await self._run(("start", name), {})

    async def delete(self, name: str) -> None:
        """Kill what is left of a container and forget it; one that is not there is fine."""
        await self._run(("delete", "--force", name), {})
        self._remove_bundle(name)

    def exec(
        self, name: str, process: Mapping[str, object], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        """Start another program in a running container; its exit code is that of the result.

        Args:
            name: of the container.
            process: the spec's `process` object; the container's seccomp profile applies too.
            stdin: descriptor for the program.
            stdout: likewise.
            stderr: likewise.

        Raises:
            KernelError: the kernel refused.
        """
        path = f"{self.state_dir}/bundles/{name}/exec.json"
        _write_private(path, json.dumps(process).encode())
        arguments = (*self._command(), "exec", f"--process={path}", name)
        return spawn(arguments, _ENVIRONMENT, {0: stdin, 1: stdout, 2: stderr})

    def _command(self) -> tuple[str, ...]:
        return (*self.program, "--cgroup-manager=cgroupfs", f"--root={self.state_dir}/crun")

    async def _run(self, arguments: tuple[str, ...], fds: Mapping[int, int]) -> None:
        """Run one operation to its end; what it says goes to the log."""
        pipe = open_pipe()
        command = (*self._command(), f"--log=/proc/self/fd/{_LOG_FD}", *arguments)
        given = {_LOG_FD: pipe.writer, 1: pipe.writer, 2: pipe.writer} | dict(fds)
        try:
            try:
                process = spawn(command, _ENVIRONMENT, given)
            finally:
                os.close(pipe.writer)
            await self._attend(process, pipe.reader)
            # a container that waits for its start holds the pipe too: no end of file to wait for
            drain(pipe.reader, self.log)
        finally:
            os.close(pipe.reader)
        if process.status is None or not process.status.is_success():
            raise ChildError(f"crun.{arguments[0]}", f"{arguments[-1]}: {process.status}")

    async def _attend(self, process: Process, reader: int) -> None:
        async with TaskGroup() as group:
            talking = group.start(pump(reader, self.log), "crun log")
            try:
                async with deadline(OPERATION_SECONDS, "crun.deadline"):
                    await process.wait()
            finally:
                process.kill()
                await process.wait()
                talking.cancel()

    def _write_bundle(self, name: str, spec: Mapping[str, object]) -> str:
        bundle = f"{self.state_dir}/bundles/{name}"
        try:
            os.makedirs(bundle, 0o700, exist_ok=True)
        except OSError as error:
            raise kernel_error(error, "mkdir", bundle) from error
        _write_private(f"{bundle}/config.json", json.dumps(spec).encode())
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
