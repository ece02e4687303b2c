"""START and RUN: the manifest's containers in order, until the last main container is done."""

import math
from collections.abc import Mapping
from functools import partial

from ccinit.agent.figures import read_memory
from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.images import Pulled
from ccinit.agent.phases.memory_store import count_used
from ccinit.agent.phases.rotation import Rotation
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.phases.workloads import Workloads, write_pod_files
from ccinit.agent.platform.measurement import container_starts
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import STEP_SECONDS
from ccinit.boot.directories import make_directory
from ccinit.boot.network_offer import NetworkPlan
from ccinit.errors import CcinitError, ChildError, ConfigError
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.pod.order import StartOrder, plan_start_order
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.clock import boottime
from ccinit.run.container import ContainerState
from ccinit.run.crun import OPERATION_SECONDS, Crun
from ccinit.run.exit_code import ContainerEnd, choose_exit_code
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.supervisor import Supervisor
from ccinit.run.users import Identity, UserRequest
from ccinit.run.workload import Sinks
from ccinit.values import frozen

_CRUN = "/run/ccinit/crun"
_SHARED = "/run/ccinit/shared"
_GUEST_RESERVE_BYTES = 96 << 20
"""Of memory for the guest itself, with a sealed log that waits for the host in a default ring."""
_LEAST_BYTES = 1 << 20  # as of one container, in the manifest
_CLEAR_SECONDS = STEP_SECONDS + 2 * OPERATION_SECONDS
"""Time to end a container beyond its grace: for a `crun` under way, and one to delete it."""
_POD_CGROUP = "/sys/fs/cgroup/pod"
_USER_SECONDS = 60.0


class Running:
    """A main container and the task that supervises it.

    Attributes:
        max_grace_seconds: the longest time that the measured configuration gives it to end.
        failure: why it could not be prepared or cleared away; whoever starts or stops the pod
            handles this, and it does not end the guest by itself.
        ended_at: when it was over, on the clock of `boottime`; infinite before.
    """

    def __init__(
        self, guest: Guest, name: str, supervisor: Supervisor, pods_grace_seconds: int
    ) -> None:
        own = supervisor.stop_grace_seconds
        self.supervisor = supervisor
        self.max_grace_seconds = pods_grace_seconds if own is None else own
        self.failure: CcinitError | None = None
        self.ended_at = math.inf
        self._guest = guest
        self.task = guest.loop.start(self._keep(name), f"container {name}")

    async def _keep(self, name: str) -> None:
        try:
            await self.supervisor.run()
        except CcinitError as error:
            self._guest.event(f"{name}: {error}")
            self.failure = error
        self.ended_at = boottime()

    async def stop(self) -> None:
        """Stop the container; the host may shorten its grace, not extend it.

        Raises:
            CcinitError: it could not be cleared away.
        """
        if not self.task.is_done():
            asked, longest = self._guest.service.stop_grace_seconds, self.max_grace_seconds
            await self.supervisor.stop(longest if asked is None else min(asked, longest))
            await self.task.join()
        if self.failure is not None:
            raise self.failure


@frozen
class Started:
    """The pod with all its main containers started."""

    main: tuple[Running, ...]

    async def run(self) -> None:
        """Wait until no main container will run again."""
        for running in self.main:
            await running.task.join()

    def exit_code(self) -> int | None:
        """Return the pod's exit code, once `run` has returned; see `ccinit.run.exit_code`."""
        in_order = sorted(self.main, key=lambda running: running.ended_at)
        supervisors = (running.supervisor for running in in_order)
        return choose_exit_code(
            ContainerEnd(state=one.life.state, status=one.last_status) for one in supervisors
        )


async def start(
    guest: Guest,
    configured: Configured,
    attested: Attested,
    unlocked: Unlocked,
    pulled: Pulled,
    network: NetworkPlan,
) -> Started:
    """Run the init containers, then start the main ones wave by wave.

    Raises:
        ChildError: `pod.init`, an init container did not succeed; `pod.start`, another never ran.
        ConfigError: `pod.memory`, the guest itself needs all of the machine's.
        ConfigError, FormatError, KernelError: `run.…`: one cannot be prepared.
    """
    manifest = configured.manifest
    order = plan_start_order(manifest.containers)
    images_bytes = count_used(unlocked.store)[0] if unlocked.in_memory else 0
    write_pod_files(manifest.name, network.address)
    ring_bytes = configured.config.limits.log_ring_bytes - Limits().log_ring_bytes
    _limit_memory(kept_bytes=images_bytes + unlocked.tags_bytes + max(0, ring_bytes))
    log = partial(guest.log.append, Kind.RUNTIME, "crun")
    crun = Crun(state_dir=make_directory(_CRUN, 0o700), log=log)
    shared = await _share(guest, configured)
    workloads = Workloads(configured, attested, unlocked, pulled, network, shared)
    supervisors = {
        container.name: Supervisor(
            workloads.make(container),
            crun,
            _sinks(guest, container.name),
            partial(ask_user_child, guest.children),
        )
        for container in manifest.containers
    }
    guest.containers.update(supervisors)
    started = await _start_in_order(guest, configured, order, supervisors, pulled)
    _keep_secrets_fresh(guest, configured, attested)
    return started


async def _share(guest: Guest, configured: Configured) -> SharedNamespaces:
    share = configured.manifest.share
    if not (share.ipc or share.process):
        return SharedNamespaces()
    from ccinit.agent.phases.pod_namespaces import share_namespaces  # noqa: PLC0415  # most pods do not

    return await share_namespaces(guest, share, _SHARED)


async def _start_in_order(
    guest: Guest,
    configured: Configured,
    order: StartOrder,
    supervisors: dict[str, Supervisor],
    pulled: Pulled,
) -> Started:
    grace_seconds = configured.config.limits.stop_grace_seconds
    image_of = {one.name: pulled.images[one.image] for one in configured.manifest.containers}

    async def measure_starts(*names: str) -> None:
        for name in names:
            configured.measurement.note(container_starts(name, image_of[name].manifest))
        await configured.measurement.measure()

    def begin(name: str) -> Running:
        running = Running(guest, name, supervisors[name], grace_seconds)
        seconds = running.max_grace_seconds + _CLEAR_SECONDS
        guest.teardown.push(f"container {name}", running.stop, seconds)
        return running

    if guest.service.owner is not None:
        # After the containers, when no copy can begin any more, and before what the files lie on.
        guest.teardown.push("owner's copies", guest.service.owner.end_copies)
    for name in order.init:
        await measure_starts(name)
        life = await supervisors[name].run()
        if life.state is not ContainerState.DONE:
            raise ChildError("pod.init", f"{name} ended {life.state}")
    main: list[Running] = []
    for wave in order.waves:
        await measure_starts(*wave)
        begun = [begin(name) for name in wave]
        for running in begun:
            await _wait_until_up(running)
        main += begun
    return Started(main=tuple(main))


async def _wait_until_up(running: Running) -> None:
    """Return once the container is running and ready, or has run and will not run again.

    Raises:
        CcinitError: why it could not be prepared; `pod.start`, it never ran.
    """
    await running.supervisor.up.wait()
    if running.supervisor.life.starts:
        return
    await running.task.join()
    raise running.failure or ChildError("pod.start", f"{running.task.name} never ran")


def _keep_secrets_fresh(guest: Guest, configured: Configured, attested: Attested) -> None:
    """Rotate secrets by the manifest's schedule, if it has one."""
    seconds = configured.manifest.rotate_every_seconds
    if seconds:
        rotation = Rotation(guest, configured, attested)
        task = guest.loop.start(rotation.keep(seconds), "rotation")
        guest.teardown.push("rotation", task.stop)


def _limit_memory(*, kept_bytes: int) -> None:
    """Limit the memory of all containers together.

    No container's cgroup is charged for `kept_bytes`. Integrity tags are counted as if a pod had
    written all of its scratch, and the sealed log as if the host collected nothing: otherwise, once
    that had come true, the guest's children would be killed for lack of memory in the pod's place.

    Raises:
        ConfigError: `pod.memory`.
    """
    total, reserve = read_memory()["MemTotal"], _GUEST_RESERVE_BYTES + kept_bytes
    most = total - reserve
    if most < _LEAST_BYTES:
        raise ConfigError(
            "pod.memory", f"the guest itself needs {reserve} bytes, and the machine has {total}"
        )
    Cgroup(_POD_CGROUP).set_memory(max_bytes=most)


async def ask_user_child(
    children: Children, request: UserRequest, fds: Mapping[str, int]
) -> Identity:
    """Have the child `user` find a container's identity; see `ccinit.run.users.user_job`."""
    return await children.run(Role.USER, request, Identity, seconds=_USER_SECONDS, fds=fds)


def _sinks(guest: Guest, name: str) -> Sinks:
    return Sinks(
        stdout=partial(guest.log.append, Kind.STDOUT, name),
        stderr=partial(guest.log.append, Kind.STDERR, name),
        event=guest.event,
    )
