"""The namespaces that the pod's containers share, from START to the pod's end.

A PID namespace needs a first process, which reaps orphans there; when it ends, the kernel kills
every other process of the namespace. The child `reaper` is that process. If it ends, the pod ends:
containers could be restarted, but not in the namespace that the manifest promises. No container can
cause that, so the host is told that the guest itself failed, and no container can choose a code
this way.
"""

from functools import partial
from typing import Never

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.reaper import Reaping, ReapRequest
from ccinit.agent.processes.children import PreparedChild
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import undoing
from ccinit.boot.directories import make_directory
from ccinit.errors import CcinitError, ChildError
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.pod.share import Share
from ccinit.kernel.event_loop import Event, Task
from ccinit.kernel.namespaces import (
    NamespaceKind,
    bind_namespace,
    namespace_file,
    release_namespace,
)
from ccinit.run.shared_namespaces import SharedNamespaces, close_shared_ipc, open_shared_ipc


async def share_namespaces(guest: Guest, share: Share, directory: str) -> SharedNamespaces:
    """Make the namespaces that the manifest shares; the guest's teardown removes them.

    Args:
        guest: whose pod it is.
        share: what is wanted.
        directory: made here, on a tmpfs.

    Raises:
        KernelError: the kernel refused.
        ChildError: `child.…`, the first process did not start.
    """
    make_directory(directory, 0o700)
    ipc = shm = process = ""
    if share.ipc:
        ipc, shm = f"{directory}/ipc", make_directory(f"{directory}/shm", 0o700)
        open_shared_ipc(ipc, shm, share.shm_bytes)
        guest.teardown.push("shared IPC", undoing(partial(close_shared_ipc, ipc, shm)))
    if share.process:
        process = f"{directory}/process"
        await Reaper(guest, process).start()
    return SharedNamespaces(ipc=ipc, shm=shm, process=process)


class Reaper:
    """The first process of a PID namespace, and the file through which others join it."""

    def __init__(self, guest: Guest, path: str) -> None:
        """Args: path: of the file, which is made."""
        self._guest = guest
        self._path = path
        self._ready = Event()
        self._failure: CcinitError | None = None
        self._unreleased: CcinitError | None = None

    async def start(self) -> None:
        """Return once it reaps; from then on its end ends the guest.

        Raises:
            CcinitError: it did not start.
        """
        task = self._guest.loop.start(self._keep(), "reaper")
        self._guest.teardown.push("shared processes", partial(self._stop, task))
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure

    async def _keep(self) -> None:
        try:
            async with self._guest.children.prepare(Role.REAPER, fds={}) as child:
                # The file, not /proc/PID: the kernel may reuse the number.
                bind_namespace(namespace_file(child.pid, NamespaceKind.PID), self._path)
                try:
                    await self._hold(child)
                finally:
                    self._release()
        except CcinitError as error:
            self._failure = error
            if self._ready.is_set():
                detail = f"the first process of the pod's PID namespace is gone: {error}"
                self._guest.give_up(ChildError("pod.processes", detail), Code.INTERNAL)
        finally:
            self._ready.set()

    def _release(self) -> None:
        """Undo the bind mount; the teardown reports a failure under this step's name."""
        try:
            release_namespace(self._path)
        except CcinitError as error:
            self._unreleased = error

    async def _stop(self, task: Task[None]) -> None:
        await task.stop()
        if self._unreleased is not None:
            raise self._unreleased

    async def _hold(self, child: PreparedChild) -> Never:
        await child.run(ReapRequest(), Reaping, seconds=None, notices={Reaping: self._note_ready})
        raise ChildError("child.ended", "reaper: gone before the pod")

    def _note_ready(self, _notice: Reaping) -> None:
        self._ready.set()
