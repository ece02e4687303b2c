"""One child from start to reaping: its cgroup, why it ended, and that nothing is left behind."""

import socket
from typing import Self, TypeVar

from ccinit.agent.processes.channel import Failure, ProgramRequest
from ccinit.agent.processes.conversation import Answers, Conversation, Notices
from ccinit.agent.processes.roles import Rights, Role
from ccinit.errors import ChildError, KernelError
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import at_most
from ccinit.kernel.priority import LOWEST, NORMAL, set_priority
from ccinit.kernel.process import Process

R = TypeVar("R")

REAP_SECONDS = 5.0
PROCESSES = 64  # threads of a program count
SIGSYS = 31
WORD_SECONDS = 1.0  # wait for the process's end after the channel's


class RunningChild:
    """A running child and our end of its channel; dead and reaped when its first block ends.

    Attributes:
        process: owned until then.
        role: names it in errors.
    """

    def __init__(
        self, process: Process, connection: socket.socket, role: Role, rights: Rights
    ) -> None:
        """Args: connection: non-blocking; closed with the child."""
        self.process = process
        self._connection = connection
        self.role = role
        self._rights = rights
        self._cgroup: Cgroup | None = None
        self._is_reaped = False

    def enclose(self, parent: Cgroup | None, store_bytes: int) -> None:
        """Put the child, which is still waiting for its request, into a cgroup of its own.

        Raises:
            KernelError: the kernel refused.
        """
        if parent is None:
            return
        self._cgroup = parent.create(f"child-{self.process.pid}")
        files_bytes = store_bytes if self._rights.stores else 0
        self._cgroup.set_memory(max_bytes=self._rights.memory_bytes + files_bytes)
        self._cgroup.set_processes(PROCESSES)
        self._cgroup.add(self.process.pid)

    def lower_priority(self) -> None:
        """Give every other child priority on the processors: nobody waits for this one yet.

        Raises:
            KernelError: the kernel refused.
        """
        set_priority(LOWEST, self.process.pid)

    def restore_priority(self) -> None:
        """Restore ordinary priority: it has its job.

        Raises:
            KernelError: the kernel refused.
        """
        if self.process.status is None:  # if it has ended, the conversation reports that
            set_priority(NORMAL, self.process.pid)

    async def do_job(
        self, request: object, reply: type[R], answers: Answers, notices: Notices
    ) -> R:
        """Have it do its job and return the result.

        Raises:
            ChildError: the child ended without one.
            CcinitError: what the job raised, or a handler did.
        """
        talk = Conversation(self._connection, self._rights, reply, answers, notices)
        result = await talk.hold(request)
        if result is None:
            raise await self._explain()
        return result

    async def become_program(self, request: ProgramRequest) -> None:
        """Have it become its program, which closes the channel: an end without a frame is success.

        Raises:
            CcinitError: why it could not.
        """
        await Conversation(self._connection, self._rights, Failure, {}, {}).hold(request)

    async def _explain(self) -> ChildError:
        """Return the error for a child that closed its channel without a result."""
        async with at_most(WORD_SECONDS):
            await self.process.wait()
        status = self.process.status
        if status is None:
            return ChildError("child.ended", f"{self.role}: silent, but still running")
        why = ", a system call outside its set" if status.signal == SIGSYS else ""
        if self._cgroup is not None and self._cgroup.oom_kills():
            why = ", out of memory"
        return ChildError("child.ended", f"{self.role}: {status}{why}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._is_reaped:
            return
        self._is_reaped = True
        self._connection.close()
        self.process.kill()
        try:
            async with at_most(REAP_SECONDS):
                await self.process.wait()
        finally:
            # Interrupted, or it hangs in the kernel: the orphan reaper will collect it.
            self.process.disown()
            self._remove_cgroup()

    def _remove_cgroup(self) -> None:
        if self._cgroup is None:
            return
        try:
            self._cgroup.kill()
            self._cgroup.remove()
        except KernelError:
            return  # EBUSY: a process in it is still dying; its limits stay in force
