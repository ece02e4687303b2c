"""Keeping one container running as its manifest says, until it is done or the pod ends.

Scope: having a container prepared once (`ccinit.run.preparation`), then attempts (create, start,
wait, delete) with the pauses between them. Left to others: what the parts do (the modules of this
room), the order of containers (`agent`, by `ccinit.formats.pod.order`), layers, volumes and secrets
(given).

The writable layer lives as long as the supervisor: a restarted program finds what it wrote, and a
crash loop does not fill the disk with layers.
"""

import errno
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from ccinit.errors import CcinitError, ConfigError, KernelError
from ccinit.formats.pod.probe import LivenessProbe, Probe
from ccinit.kernel.cgroup import ROOT as CGROUP_ROOT
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import Event, TaskGroup, at_most, sleep
from ccinit.kernel.process import ExitStatus, Process
from ccinit.run.container import ContainerEvent, ContainerState, Life, next_life
from ccinit.run.crun import Crun
from ccinit.run.files import open_file
from ccinit.run.preparation import prepare
from ccinit.run.probe import asking, wait_for_no, wait_for_yes
from ccinit.run.secrets import replace_secrets
from ccinit.run.spec import plan_exec
from ccinit.run.stdio import open_outputs, pump
from ccinit.run.stop_signal import parse_stop_signal
from ccinit.run.user_files import AskUserChild
from ccinit.run.workload import Prepared, SecretFile, Sinks, Workload

_DRAIN_SECONDS: Final = 2.0  # for what is left in the pipes after the last process
_UNHEALTHY_SECONDS: Final = 10.0  # for a program that fails its probe to end by itself


class Supervisor:
    """The life of one container; `ask_user_child` has the image's user files read.

    Attributes:
        life: its state and restarts.
        last_status: how its program last ended; None before, or if it could not be started.
        oom_kills: how many of its processes were OOM-killed, each time all of them
            (`memory.oom.group`).
        up: set once it runs and is ready, or once it is clear that it never will.
    """

    def __init__(
        self, workload: Workload, crun: Crun, sinks: Sinks, ask_user_child: AskUserChild
    ) -> None:
        self.life = Life()
        self.last_status: ExitStatus | None = None
        self.oom_kills = 0
        self.up: Final = Event()
        self._workload = workload
        self._name = workload.container.name
        self._crun = crun
        self._sinks = sinks
        self._ask_user_child = ask_user_child
        self._prepared: Prepared | None = None
        self._process: Process | None = None
        self._stop_signal: int = signal.SIGTERM
        self._ask = asking(
            self.exec, workload.address, lambda text: sinks.event(f"{self._name}: {text}")
        )
        self._stopping = Event()
        self._was_unhealthy = False
        self._uncleared: CcinitError | None = None
        self._ended = Event()

    @property
    def stop_grace_seconds(self) -> int | None:
        """The time that the manifest gives it to stop; None if it does not say."""
        return self._workload.container.stop_grace_seconds

    @property
    def cgroup(self) -> Cgroup:
        """Where its processes are, while it runs."""
        return Cgroup(CGROUP_ROOT + self._workload.cgroup_path)

    async def run(self) -> Life:
        """Supervise until the state is final; return the life.

        Raises:
            CcinitError: the container could not be prepared, or not cleared away.
        """
        try:
            with ExitStack() as undo:
                self._stop_signal = parse_stop_signal(self._workload.image.stop_signal)

                def undo_later(step: Callable[[str], None], path: str) -> None:
                    undo.callback(self._clear, step, path)

                self._prepared = await prepare(self._workload, self._ask_user_child, undo_later)
                while not self.life.is_final:
                    await self._attempt(self._prepared.spec)
            if self._uncleared is not None:
                raise self._uncleared
        finally:
            self.up.set()
            self._ended.set()
        return self.life

    async def stop(self, grace_seconds: float) -> None:
        """Ask the container to end, wait, then kill it; return when `run` is over."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill(self._stop_signal)
        async with at_most(grace_seconds) as grace:
            await self._ended.wait()
        if grace.is_over:
            if self._process is not None:
                self._process.kill(signal.SIGKILL)
            await self._ended.wait()

    async def exec(
        self, arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        """Start another program in the container.

        Args:
            arguments: absolute path of the program, and its arguments.
            stdin: descriptor for the program; the caller keeps its own copy.
            stdout: likewise.
            stderr: likewise.

        Raises:
            ConfigError: `run.exec`, the container does not run; `run.args`.
            ChildError: `crun.exec`, the program could not be started.
            KernelError: the kernel refused.
        """
        self._require_running()
        process = plan_exec(self._require_prepared().spec, arguments)
        return await self._crun.exec(self._name, process, stdin=stdin, stdout=stdout, stderr=stderr)

    async def exec_on_terminal(
        self, arguments: tuple[str, ...], *, rows: int, columns: int
    ) -> tuple[Process, int]:
        """Start another program on a terminal of its own; return both. See `exec`."""
        self._require_running()
        process = plan_exec(self._require_prepared().spec, arguments, terminal=(rows, columns))
        return await self._crun.exec_on_terminal(self._name, process)

    def send_signal(self, number: int) -> None:
        """Send a signal to the container's first process.

        Raises:
            ConfigError: `run.exec`, the container does not run.
            KernelError: no such signal.
        """
        self._require_running().kill(number)

    def replace_secrets(self, files: tuple[SecretFile, ...]) -> None:
        """Replace secret files that rotate; a program started later finds the new ones.

        Raises:
            ConfigError: `run.exec`, the container is not prepared.
            LimitExceededError, KernelError: see `ccinit.run.secrets.replace_secrets`.
        """
        identity = self._require_prepared().identity
        written = self._workload.secret_files
        replace_secrets(f"{self._workload.run_dir}/secrets", written, files, identity)

    def open_file(self, path: str, *, into: bool, mode: int) -> int:
        """Open a regular file as the container sees it; see `ccinit.run.files.open_file`.

        Raises:
            ConfigError: `run.exec`, the container does not run; `run.file`, not a regular file.
            KernelError: the kernel refused.
        """
        pid = self._require_running().pid
        return open_file(pid, path, into=into, mode=mode, owner=self._require_prepared().identity)

    def _require_prepared(self) -> Prepared:
        if self._prepared is None or self.life.is_final:
            raise ConfigError("run.exec", f"{self._name} is {self.life.state}")
        return self._prepared

    def _require_running(self) -> Process:
        if self.life.state is not ContainerState.RUNNING or self._process is None:
            raise ConfigError("run.exec", f"{self._name} is {self.life.state}")
        # Its probes may take some time to end, when its pid may already be another process's.
        if self._process.status is not None:
            raise ConfigError("run.exec", f"{self._name} has ended")
        return self._process

    def _clear(self, step: Callable[[str], None], path: str) -> None:
        """Take one step of the clean-up; log its failure, and let the other steps follow.

        One failure can cause others (a directory is not empty), so the first is kept as the reason.
        """
        try:
            step(path)
        except CcinitError as error:
            self._sinks.event(f"{self._name}: {error}")
            self._uncleared = self._uncleared or error

    async def _attempt(self, spec: dict[str, object]) -> None:
        """Run the program once, and decide what comes next."""
        begin = boottime()
        self.last_status = None
        self._was_unhealthy = False
        try:
            self.last_status = await self._run_once(spec)
        except CcinitError as error:
            self._sinks.event(f"{self._name}: {error}")
        good = self.last_status is not None and self.last_status.is_success()
        good = good and not self._was_unhealthy
        event = ContainerEvent.EXIT_GOOD if good else ContainerEvent.EXIT_BAD
        if self.last_status is not None:
            self._sinks.event(f"{self._name}: {self.last_status}")
        if self._stopping.is_set():
            event = ContainerEvent.STOP
        self._move(event, ran_seconds=boottime() - begin)
        if self.life.state is ContainerState.RETRYING:
            await self._pause()

    async def _run_once(self, spec: dict[str, object]) -> ExitStatus:
        out, err = open_outputs(2)
        try:
            try:
                self._process = await self._crun.create(
                    self._name, spec, stdout=out.writer, stderr=err.writer
                )
            finally:
                os.close(out.writer)
                os.close(err.writer)
            return await self._attend(self._process, out.reader, err.reader)
        finally:
            os.close(out.reader)
            os.close(err.reader)

    async def _attend(self, process: Process, out: int, err: int) -> ExitStatus:
        """Start the created container, pass on its output, wait for its end, delete it."""
        async with TaskGroup() as group:
            pumps = (
                group.start(pump(out, self._sinks.stdout), f"{self._name} stdout"),
                group.start(pump(err, self._sinks.stderr), f"{self._name} stderr"),
            )
            try:
                await self._live(process)
            finally:
                status = await self._end_and_delete(process)
            async with at_most(_DRAIN_SECONDS) as draining:
                for task in pumps:
                    await task.join()
            if draining.is_over:
                group.cancel()
        return status

    async def _live(self, process: Process) -> None:
        """Start the created container and wait for its end, asking its probes meanwhile."""
        self._move(ContainerEvent.CREATE)
        if not self._stopping.is_set():  # else nothing would tell the program to end
            await self._crun.start(self._name)
        # Again: the kernel dropped a signal sent before the program could handle it.
        if self._stopping.is_set():
            return
        self._move(ContainerEvent.START)
        async with TaskGroup() as probes:
            self._start_probes(probes, process)
            await process.wait()
            probes.cancel()

    async def _end_and_delete(self, process: Process) -> ExitStatus:
        """End whatever is left of the container, after noting how its program ended."""
        process.kill()
        status = await process.wait()
        self._uncleared = None
        self._count_oom_kills()
        try:
            await self._crun.delete(self._name)
        except CcinitError as error:
            self._sinks.event(f"{self._name}: {error}")
            self._uncleared = error
        return status

    def _count_oom_kills(self) -> None:
        """Save the kernel's count from the cgroup, which `crun delete` will remove."""
        try:
            kills = self.cgroup.oom_kills()
        except KernelError as error:  # it has to be deleted nevertheless
            if error.errno != errno.ENOENT:  # else it has none
                self._sinks.event(f"{self._name}: {error}")
            return
        self.oom_kills += kills
        if kills:
            self._sinks.event(f"{self._name}: out of memory, {kills} processes were killed")

    def _start_probes(self, group: TaskGroup, process: Process) -> None:
        """Start the manifest's probes; a container without a readiness probe is up at once."""
        container = self._workload.container
        if container.ready is None:
            self.up.set()
        else:
            group.start(self._become_ready(container.ready), f"{self._name} ready")
        if container.alive is not None:
            group.start(self._end_if_unhealthy(container.alive, process), f"{self._name} alive")

    async def _become_ready(self, probe: Probe) -> None:
        await wait_for_yes(probe, self._ask)
        if not self.up.is_set():
            self._sinks.event(f"{self._name}: is ready")
        self.up.set()

    async def _end_if_unhealthy(self, alive: LivenessProbe, process: Process) -> None:
        """End a program that fails its probe; that counts as a failure, however it ends."""
        await wait_for_no(alive, self._ask)
        self._sinks.event(f"{self._name}: does not answer, and is ended")
        self._was_unhealthy = True
        process.kill(self._stop_signal)
        await sleep(_UNHEALTHY_SECONDS)
        process.kill()

    async def _pause(self) -> None:
        async with at_most(self.life.delay_seconds) as pause:
            await self._stopping.wait()
        if pause.is_over:
            return
        self._move(ContainerEvent.STOP)
        # Followers of its output need one more entry, to see that there will be no more.
        self._sinks.event(f"{self._name}: stopped, and not started again")

    def _move(self, event: ContainerEvent, *, ran_seconds: float = 0.0) -> None:
        policy = self._workload.container.restart
        self.life = next_life(self.life, event, policy, ran_seconds=ran_seconds)
        if self.life.is_final:
            self.up.set()
