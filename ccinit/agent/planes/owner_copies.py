"""The files that the owner's clients copy, which are closed before the disks that they lie on.

A disk closes only once nobody has a file of it open. The file of a copy is open in the child that
serves the connection, and the copy may take as long as its client likes. So with each file the
child gets a pipe, the port END: once there is something to read from it, the child closes the file,
tells its client, and closes the pipe. PID 1 has the pipe's other end, and sees there when the file
is closed, whatever has become of the child.
"""

import os
from typing import Final

from ccinit.agent.guest import Guest
from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_streams import open_outgoing, write_end
from ccinit.errors import ChildError, DeadlineError, KernelError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import MAX_CALLS
from ccinit.kernel.event_loop import Event, at_most, readable
from ccinit.owner.messages import CallEnd
from ccinit.values import frozen

CLOSE_SECONDS: Final = 20.0  # a slow disk may still have to take what was written
MAX_COPIES: Final = 2 * MAX_CALLS
"""For one connection: those that are open, and as many that PID 1 has yet to see closed."""

_NOT_READ = "the pod ended before the file was read to its end"
_NOT_WRITTEN = "the pod ended, and the file there has only what had come by then"


@frozen
class _Copy:
    """Whose it is, and what its client is told if the pod ends first."""

    caller: Caller
    why: str


class OpenCopies:
    """The copies of all clients.

    Attributes:
        are_over: none may begin any more.
    """

    def __init__(self, guest: Guest) -> None:
        self.are_over = False
        self._guest = guest
        self._open: dict[int, _Copy] = {}  # by PID 1's end of the pipe
        self._closed = Event()

    def begin(self, caller: Caller, *, into: bool) -> int:
        """Count a copy until its file is closed; return the descriptor for the child's port END.

        Raises:
            ChildError: `child.protocol`, more copies than a client can have.
            KernelError: no free descriptors.
        """
        if sum(copy.caller is caller for copy in self._open.values()) >= MAX_COPIES:
            raise ChildError("child.protocol", f"a copy beside {MAX_COPIES}")
        (pipe,) = open_outgoing(1)
        why = _NOT_WRITTEN if into else _NOT_READ
        self._open[pipe.writer] = copy = _Copy(caller=caller, why=why)
        # Not a task of the connection, which would end before its child is dead.
        self._guest.loop.start(self._watch(pipe.writer, copy), "owner copy")
        return pipe.reader

    async def end(self) -> None:
        """End every copy; return once all their files are closed.

        A child that does not close its file in time is killed, and its connection ends.
        """
        self.are_over = True
        for end, copy in self._open.items():
            told = CallEnd(code=RpcError.FAILED, reason="owner.pod_ended", detail=copy.why)
            write_end(end, told)
            self._guest.event(f"owner: {copy.caller}: a copy ends with the pod")
        async with at_most(CLOSE_SECONDS) as closing:
            await self._wait_until_closed()
        if closing.is_over:
            late = f"not closed within {CLOSE_SECONDS:g} s of the pod's end"
            for copy in self._open.values():
                copy.caller.end(DeadlineError("owner.copy_open", late))
            await self._wait_until_closed()

    async def _wait_until_closed(self) -> None:
        while self._open:
            self._closed.clear()
            await self._closed.wait()

    async def _watch(self, end: int, copy: _Copy) -> None:
        try:
            await readable(end)  # which a pipe's writer is only once nobody can read it
        except KernelError as error:  # it cannot be watched
            copy.caller.end(error)
        finally:
            os.close(end)
            del self._open[end]
            self._closed.set()
