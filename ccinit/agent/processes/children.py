"""PID 1's side of its children: start one, talk with it, take its result.

Each job is a process of its own: a fresh interpreter that gives up its rights (`child`), reads one
request, may ask questions, sends one result and is killed. Anything else ends in one of three
errors: the one that the child reports, `ChildError` if it breaks the protocol or exits,
`DeadlineError` if it is late. Its messages are decoded as exactly the types that the caller names,
under the caps of its row in `roles`; fds travel only to a child, never back.
"""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TypeVar

from ccinit.agent.processes.channel import (
    CHANNEL_FD,
    FIRST_JOB_FD,
    ProgramRequest,
    printable,
)
from ccinit.agent.processes.conversation import Answers, Notices
from ccinit.agent.processes.roles import RIGHTS, Rights, Role
from ccinit.agent.processes.running_child import RunningChild
from ccinit.agent.processes.secret_pipes import open_secret_pipes
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import deadline, readable
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.namespaces import NamespaceKind, new_namespace
from ccinit.kernel.pipes import open_pipes, open_socket_pair
from ccinit.kernel.process import ExitStatus, spawn
from ccinit.secret import Secret
from ccinit.values import frozen

R = TypeVar("R")

CHUNK_BYTES = 1 << 16
OUTPUT_BYTES = 4096


@frozen
class ProgramEnd:
    """How a program ended, and the first 4 KiB of its output, sanitised."""

    status: ExitStatus
    output: str


class PreparedChild:
    """A child that waits for its only job.

    Attributes:
        is_used: it has been given its job, and takes no other.
        pid: of its process, until the job or the block of `prepare` ends.
    """

    def __init__(self, child: RunningChild) -> None:
        self.is_used = False
        self.pid = child.process.pid
        self._child = child

    async def run(
        self,
        request: object,
        reply: type[R],
        *,
        seconds: float | None,
        answers: Answers | None = None,
        notices: Notices | None = None,
    ) -> R:
        """Give it the job and return the result; takes and raises what `Children.run` does.

        As there, the child is dead when this returns. Without `seconds` it has no deadline: the job
        may last as long as its block.
        """
        if self.is_used:
            raise RuntimeError("a child does one job")
        self.is_used = True
        self._child.restore_priority()
        role = self._child.role
        limit = nullcontext() if seconds is None else deadline(seconds, "child.late", role)
        async with self._child, limit:
            return await self._child.do_job(request, reply, answers or {}, notices or {})


class PreparedProgram:
    """A child that waits for its program's arguments.

    Attributes:
        is_used: it has been given its arguments, and takes no others.
    """

    def __init__(self, child: RunningChild, output: int) -> None:
        self.is_used = False
        self._child = child
        self._output = output

    async def run(self, arguments: Sequence[str], *, seconds: float) -> ProgramEnd:
        """Run the program; see `Children.run_program`."""
        if self.is_used:
            raise RuntimeError("a child becomes one program")
        self.is_used = True
        self._child.restore_priority()
        async with deadline(seconds, "child.late", self._child.role):
            await self._child.become_program(ProgramRequest(arguments=tuple(arguments)))
            output = await _read_output(self._output)
            return ProgramEnd(status=await self._child.process.wait(), output=output)


class Children:
    """Starts children by the table of roles.

    Args:
        interpreter: how to start a child; `child ROLE WORKSPACE NAME…` is added.
        environment: of the interpreter.
        cgroup: parent of each child's cgroup; without it, only the process's own limits apply.
        table: the rights of each role; tests pass another one.

    Attributes:
        store_bytes: the most memory that the store's files can take; 0 if the store is on a disk.
    """

    def __init__(
        self,
        interpreter: Sequence[str],
        environment: Mapping[str, str] | None = None,
        cgroup: Cgroup | None = None,
        table: Mapping[Role, Rights] = RIGHTS,
    ) -> None:
        self._interpreter = tuple(interpreter)
        self._environment = dict(environment or {})
        self._cgroup = cgroup
        self._table = table
        self.store_bytes = 0

    async def run(  # noqa: PLR0913 - keywords, all but one optional
        self,
        role: Role,
        request: object,
        reply: type[R],
        *,
        seconds: float,
        fds: Mapping[str, int] | None = None,
        secrets: Mapping[str, Secret] | None = None,
        answers: Answers | None = None,
        notices: Notices | None = None,
        workspace: str = "",
    ) -> R:
        """Run one job and return its result.

        Args:
            role: the row of rights.
            request: a value of the type that the job takes.
            reply: the class that it returns.
            seconds: until it is killed.
            fds: the child gets copies under these names.
            secrets: likewise, each in a pipe of its own; at most 64 KiB.
            answers: for each type of question, the function that answers it.
            notices: for each type of notice, the function that receives it.
            workspace: see `run_program`; for roles that have one.

        Raises:
            DeadlineError: `child.late`.
            ChildError: `child.ended`, `child.protocol`.
            LimitExceededError: `child.secret`.
            KernelError: it could not be started.
            CcinitError: what the job raised, or a handler did.
        """
        async with (
            deadline(seconds, "child.late", role),
            self._start_with(role, fds or {}, secrets or {}, workspace) as child,
        ):
            child.enclose(self._cgroup, self.store_bytes)
            return await child.do_job(request, reply, answers or {}, notices or {})

    @asynccontextmanager
    async def prepare(
        self,
        role: Role,
        *,
        fds: Mapping[str, int],
        workspace: str = "",
    ) -> AsyncIterator[PreparedChild]:
        """Start a child for a job to come soon; yields it, and ends it with the block.

        It loads its code and gives up its rights while others work, at lower priority than they
        have, and then waits. The fds may be closed once it has been yielded.

        Raises:
            KernelError: it could not be started.
        """
        async with self._start(role, fds, workspace, {}) as child:
            child.enclose(self._cgroup, self.store_bytes)
            child.lower_priority()
            yield PreparedChild(child)

    async def run_program(
        self,
        role: Role,
        arguments: Sequence[str],
        *,
        seconds: float,
        workspace: str,
    ) -> ProgramEnd:
        """Run the program of `role` with `arguments` and return how it ended.

        Args:
            role: a row whose job is a program.
            arguments: without the program itself.
            seconds: until it is killed.
            workspace: a file, device or directory that belongs to the role's user; everybody must
                be able to traverse the directories above.

        Raises:
            DeadlineError: `child.late`.
            CcinitError: the child could not give up its rights or start the program.
        """
        async with self.prepare_program(role, workspace=workspace) as program:
            return await program.run(arguments, seconds=seconds)

    @asynccontextmanager
    async def prepare_program(
        self,
        role: Role,
        *,
        workspace: str,
        stdin: int | None = None,
    ) -> AsyncIterator[PreparedProgram]:
        """Start a child that waits to become the program of `role`; see `prepare`.

        `stdin` is the program's standard input instead of /dev/null.

        Raises:
            KernelError: it could not be started.
        """
        (output,) = open_pipes(1)
        try:
            os.set_blocking(output.reader, False)
            try:
                standard = {1: output.writer, 2: output.writer}
                standard |= {} if stdin is None else {0: stdin}
                child = self._start(role, {}, workspace, standard)
            finally:
                os.close(output.writer)
            async with child:
                child.enclose(self._cgroup, self.store_bytes)
                child.lower_priority()
                yield PreparedProgram(child, output.reader)
        finally:
            os.close(output.reader)

    def _start_with(
        self, role: Role, fds: Mapping[str, int], secrets: Mapping[str, Secret], workspace: str
    ) -> RunningChild:
        pipes = open_secret_pipes(secrets)
        try:
            return self._start(role, {**fds, **pipes}, workspace, {})
        finally:
            close_all(pipes.values())

    def _start(
        self, role: Role, fds: Mapping[str, int], workspace: str, standard: Mapping[int, int]
    ) -> RunningChild:
        rights = self._table[role]
        ours, theirs = open_socket_pair()
        try:
            ours.setblocking(False)  # noqa: FBT003 (positional only)
            numbers = {CHANNEL_FD: theirs.fileno()}
            numbers |= {FIRST_JOB_FD + index: fd for index, fd in enumerate(fds.values())}
            numbers |= standard
            with new_namespace(NamespaceKind.PID) if rights.own_processes else nullcontext():
                process = spawn(
                    (*self._interpreter, "child", role, workspace, *fds), self._environment, numbers
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return RunningChild(process, ours, role, rights)


async def _read_output(reader: int) -> str:
    """Read to the end, so that the writer never blocks; keep the beginning."""
    output = b""
    while True:
        await readable(reader)
        try:
            data = os.read(reader, CHUNK_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            raise kernel_error(error, "read", "output") from error
        if not data:
            return "\n".join(
                printable(line) for line in output.decode("ascii", "replace").split("\n")
            )
        output = (output + data)[:OUTPUT_BYTES]
