"""The boot as straight-line code: one function per phase, each taking what earlier ones returned.

Only a phase's own function can make its result, so a phase out of order is a type error. Each phase
imports the libraries that it needs: before CONFIG, only what LISTEN uses is loaded.
"""

# ruff: noqa: PLC0415  # see above

from ccinit.agent.figures import read_pss_bytes
from ccinit.agent.guest import EarlyGuest, Guest
from ccinit.annotations import TYPE_CHECKING
from ccinit.boot.directories import RUN, make_directory
from ccinit.boot.harden import harden
from ccinit.boot.pseudofs import mount_all
from ccinit.errors import as_known
from ccinit.formats.planes.host_rpc import PORT, Phase
from ccinit.init import sequence
from ccinit.init.lean import NO_LEGACY
from ccinit.init.sequence import run_phase
from ccinit.kernel import vsock
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import deadline
from ccinit.kernel.grace_period import expedite_grace_periods
from ccinit.kernel.priority import NORMAL, set_priority
from ccinit.rpc.server import RpcLimits, serve

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from ccinit.agent.log_pump import LogPump
    from ccinit.agent.phases.attestation import Attested
    from ccinit.agent.phases.configuration import Configured
    from ccinit.agent.phases.images import Pulled
    from ccinit.agent.phases.pod import Started
    from ccinit.agent.phases.reception_children import ReceptionChildren
    from ccinit.agent.phases.storage import Unlocked
    from ccinit.agent.processes.children import Children
    from ccinit.boot.network_offer import NetworkPlan

INTERPRETER = ("/usr/bin/python3.13", "-I", "-S", "-B", "/usr/lib/ccinit")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", **NO_LEGACY}
_AGENT_MEMORY_BYTES = 64 * 1024 * 1024
SEED_SECONDS = 60.0
"""Far less than CONFIG's deadline, so that a late seed is reported as such."""


async def boot(early: EarlyGuest) -> "Started":
    """Run every phase up to a running pod.

    Raises:
        PhaseError: a phase failed; the guest has to end.
    """
    await run_phase(early, sequence.MOUNT, _mount())
    await run_phase(early, sequence.HARDEN, _harden())
    await run_phase(early, sequence.LISTEN, _listen(early))
    guest = early.with_children(_make_children())
    configured = await run_phase(guest, sequence.CONFIG, _configure(guest))
    limits = configured.config.limits
    network = await run_phase(
        guest, sequence.NET, _connect(guest, configured), limits.network_seconds
    )
    await run_phase(guest, sequence.RANDOM, _wait_for_entropy())
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as ahead:
        attested, pump, waiting = await run_phase(
            guest, sequence.ATTEST, _attest(guest, configured, ahead), limits.attest_seconds
        )
        unlocked = await run_phase(
            guest, sequence.UNLOCK, _unlock(guest, configured, attested, pump)
        )
        pulled = await run_phase(
            guest,
            sequence.PULL,
            _pull(guest, configured, attested, unlocked, waiting),
            limits.pull_seconds,
        )
    if guest.service.may_start:
        await guest.service.starting.wait()
    return await run_phase(
        guest, sequence.START, _start(guest, configured, attested, unlocked, pulled, network)
    )


async def _mount() -> None:
    mount_all()
    make_directory(RUN, 0o711)


async def _harden() -> None:
    """Apply kernel settings and make the cgroup tree, with PID 1 in a leaf of protected memory."""
    harden()
    root = Cgroup()
    root.enable(("cpu", "memory", "pids"))
    leaf = root.create("init")
    leaf.add(1)
    leaf.set_memory(min_bytes=_AGENT_MEMORY_BYTES)
    root.create("children").enable(("memory", "pids"))
    root.create("pod").enable(("cpu", "memory", "pids"))


async def _listen(guest: EarlyGuest) -> None:
    listener = vsock.listen(PORT)

    async def serve_host() -> None:
        with listener:
            await serve(lambda: vsock.accept(listener), guest.service, RpcLimits())

    guest.loop.start(serve_host(), "host plane")
    guest.figures.listen_pss_bytes = read_pss_bytes()
    # The initrd raised our priority, since nothing else ran; from here on children will.
    set_priority(NORMAL)
    expedite_grace_periods(on=False)


def _make_children() -> "Children":
    from ccinit.agent.processes.children import Children

    return Children(INTERPRETER, ENVIRONMENT, Cgroup("/sys/fs/cgroup/children"))


async def _configure(guest: Guest) -> "Configured":
    from ccinit.agent.phases.configuration import configure
    from ccinit.agent.phases.log_binding import bind_log, open_log
    from ccinit.formats.initdata.guest_config import StartBy

    await _wait_for_entropy()
    configured = await configure(guest)
    guest.service.may_start = configured.config.start_by is StartBy.HOST
    guest.service.may_measure = configured.manifest.allow.metrics_to_host
    guest.service.may_tell_exit = configured.manifest.allow.exit_code_to_host
    open_log(guest, configured)
    await bind_log(guest, configured, Phase.CONFIG)
    return configured


async def _connect(guest: Guest, configured: "Configured") -> "NetworkPlan":
    from ccinit.agent.phases.log_binding import bind_log
    from ccinit.agent.phases.network import connect

    network = await connect(guest)
    await bind_log(guest, configured, Phase.NET)
    return network


async def _wait_for_entropy() -> None:
    """Wait until the kernel's random number generator is seeded.

    CONFIG waits first, since it names report requests at random and makes the log's keys; RANDOM
    then finds the seed there.
    """
    from ccinit.kernel.entropy import wait_for_entropy

    async with deadline(SEED_SECONDS, sequence.SEED_LATE):
        await wait_for_entropy()


async def _attest(
    guest: Guest, configured: "Configured", ahead: "AsyncExitStack"
) -> tuple["Attested", "LogPump", "ReceptionChildren | None"]:
    """Return what the KBS gave, the pump of the kernel's log, and children for PULL.

    From now on the pump seals the kernel's log. The children load their code during this phase and
    the next; `ahead` ends them.
    """
    from ccinit.agent.log_pump import LogPump
    from ccinit.agent.phases.attestation import attest
    from ccinit.agent.phases.images import prepare_first

    give_back_memory(guest)  # of PID 1's start-up: several interpreters start now
    waiting = await ahead.enter_async_context(prepare_first(guest, configured))
    attested = await attest(guest, configured)
    pump = LogPump(guest)
    guest.loop.start(pump.run(), "kernel log")
    if configured.config.owner is not None:
        from ccinit.agent.planes.owner_plane import open_owner_plane

        open_owner_plane(guest, configured, attested, configured.config.owner)
    return attested, pump, waiting


async def _unlock(
    guest: Guest, configured: "Configured", attested: "Attested", pump: "LogPump"
) -> "Unlocked":
    from ccinit.agent.phases.storage import unlock
    from ccinit.agent.storage_watch import WHILE_OPENING, StorageWatch

    pump.watch(StorageWatch(guest, configured.manifest, kinds=WHILE_OPENING))
    unlocked = await unlock(guest, configured, attested)
    pump.watch(StorageWatch(guest, configured.manifest))
    return unlocked


async def _pull(
    guest: Guest,
    configured: "Configured",
    attested: "Attested",
    unlocked: "Unlocked",
    waiting: "ReceptionChildren | None",
) -> "Pulled":
    from ccinit.agent.phases.images import pull

    return await pull(guest, configured, attested, unlocked, waiting)


async def _start(
    guest: Guest,
    configured: "Configured",
    attested: "Attested",
    unlocked: "Unlocked",
    pulled: "Pulled",
    network: "NetworkPlan",
) -> "Started":
    from ccinit.agent.phases.pod import start
    from ccinit.agent.planes.workload_plane import open_workload_api

    give_back_memory(guest)  # everything is imported; the rest of the memory is for the pod
    open_workload_api(guest, configured, attested)  # before any container could take its port
    return await start(guest, configured, attested, unlocked, pulled, network)


def give_back_memory(guest: EarlyGuest, *, singly: bool = False) -> None:
    """Give back the memory of code that has run, and of what it freed; see `ccinit.kernel.memory`.

    If the kernel refuses, PID 1 keeps some megabytes; that is no reason to end a pod.
    """
    from ccinit.kernel.memory import page_out_code, trim_heap

    trim_heap()
    try:
        page_out_code(singly=singly)
    except OSError as error:
        guest.event(f"memory stays with PID 1: {as_known(error)}")
