"""Everything that is counted in this guest, for the owner plane's `metrics`.

Values are read on request, from kernel files and from PID 1's own state; nothing is sampled in
between.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from ccinit.agent.figures import read_memory, read_pss_bytes
from ccinit.agent.guest import Guest
from ccinit.errors import KernelError
from ccinit.formats.planes.prometheus import Metric, MetricKind, Sample, render
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.clock import boottime_us
from ccinit.run.supervisor import Supervisor

_C, _G = MetricKind.COUNTER, MetricKind.GAUGE


def render_metrics(guest: Guest) -> str:
    """Return the text of all metrics."""
    return render((*_of_guest(guest), *_of_phases(guest), *_of_containers(guest)))


def _of_guest(guest: Guest) -> Iterator[Metric]:
    memory = read_memory()
    figures, log = guest.figures, guest.log
    for name, kind, text, value in (
        ("phase", _G, "Phase of the boot, a number of the host plane.", guest.state.phase),
        ("uptime_seconds", _C, "Since the kernel started.", boottime_us() / 1e6),
        ("memory_total_bytes", _G, "Memory of the guest.", memory["MemTotal"]),
        ("memory_available_bytes", _G, "Memory without swapping.", memory["MemAvailable"]),
        ("pid1_pss_bytes", _G, "Proportional set size of PID 1.", read_pss_bytes()),
        ("evidence_total", _C, "Evidence made by the platform.", figures.evidence_made),
        ("log_dropped_total", _C, "Entries not sealed.", log.dropped),
        ("log_ring_free_bytes", _G, "Room of the sealed stream.", log.ring.room),
    ):
        yield Metric(name=f"ccinit_{name}", kind=kind, help=text, samples=(Sample(value=value),))


def _of_phases(guest: Guest) -> Iterator[Metric]:
    figures = guest.figures
    yield Metric(
        name="ccinit_phase_duration_seconds",
        kind=_G,
        help="How long each phase took: ATTEST the attestation, PULL the images.",
        samples=_samples("phase", figures.phase_seconds),
    )
    yield Metric(
        name="ccinit_image_file_bytes",
        kind=_G,
        help="Bytes of files of a pulled image.",
        samples=_samples("image", figures.image_bytes),
    )


def _of_containers(guest: Guest) -> Iterator[Metric]:
    containers = guest.containers
    yield Metric(
        name="ccinit_container_state",
        kind=_G,
        help="1 for the state that a container is in.",
        samples=tuple(
            Sample(value=1, labels=(("container", name), ("state", one.life.state)))
            for name, one in containers.items()
        ),
    )
    yield Metric(
        name="ccinit_container_starts_total",
        kind=_C,
        help="How often a container was started.",
        samples=_samples("container", {name: one.life.starts for name, one in containers.items()}),
    )
    for name, kind, text, read in _USAGE:
        samples = _samples("container", _read_each(containers, read))
        yield Metric(name=f"ccinit_container_{name}", kind=kind, help=text, samples=samples)
    yield Metric(
        name="ccinit_container_oom_kills_total",
        kind=_C,
        help="Processes killed for memory.",
        samples=_samples("container", {name: one.oom_kills for name, one in containers.items()}),
    )


_USAGE: tuple[tuple[str, MetricKind, str, Callable[[Cgroup], float]], ...] = (
    ("memory_bytes", _G, "Memory in use.", Cgroup.memory_bytes),
    ("cpu_seconds_total", _C, "Processor time used.", lambda one: one.processor_us() / 1e6),
    ("processes", _G, "Processes and threads.", Cgroup.processes),
)


def _read_each(
    containers: Mapping[str, Supervisor], read: Callable[[Cgroup], float]
) -> Mapping[str, float]:
    """Return what each container uses, leaving out those that are not running."""
    usage = {}
    for name, one in containers.items():
        with suppress(KernelError):
            usage[name] = read(one.cgroup)
    return usage


def _samples(label: str, values: Mapping[str, float]) -> tuple[Sample, ...]:
    return tuple(Sample(value=value, labels=((label, name),)) for name, value in values.items())
