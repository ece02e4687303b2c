"""Containers are measured before they start, in the order in which they start."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.phases import pod, workloads
from ccinit.agent.phases.storage import Unlocked
from ccinit.boot.network_offer import NetworkPlan
from ccinit.errors import CcinitError, ConfigError, FormatError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.pod.order import StartOrder
from ccinit.formats.pod.share import Share
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.kernel.process import ExitStatus
from ccinit.run.container import ContainerState, Life
from ccinit.run.crun import OPERATION_SECONDS
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.supervisor import _DRAIN_SECONDS
from tests.fakes.documents.containers import CONTAINER

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.agent.phases.attestation import Attested
    from ccinit.agent.phases.configuration import Configured
    from ccinit.agent.phases.images import Pulled
    from ccinit.formats.tcg.aael import AaelEvent
    from ccinit.run.supervisor import Supervisor

ORDER = StartOrder(init=("migrate",), waves=(("db", "cache"), ("web",)))
NAMES = ("migrate", "db", "cache", "web")


class Measurement:
    """Keeps the diary; fails before the container that it is told."""

    def __init__(self, diary: list[str], fails_for: str = "") -> None:
        self._diary = diary
        self._fails_for = fails_for
        self._noted: list[str] = []

    def note(self, event: "AaelEvent") -> None:
        assert event.operation == "StartContainer"
        self._noted.append(event.content.split('"')[3])

    async def measure(self) -> None:
        if self._fails_for in self._noted:
            raise VerificationError("event_log.register", "somebody else extended it")
        self._diary += [f"measured {name}" for name in self._noted]
        self._noted = []


class FakeSupervisor:
    """Runs at once; an init container ends, the others stay until they are cancelled."""

    stop_grace_seconds: int | None = None

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name, self.diary = name, diary
        self.up = Event()
        self.life = Life()

    async def run(self) -> Life:
        self.diary.append(f"started {self.name}")
        self.life = Life(state=ContainerState.DONE, starts=1)
        self.up.set()
        return self.life


class UnpreparedSupervisor(FakeSupervisor):
    """Cannot be prepared."""

    async def run(self) -> Life:
        self.up.set()
        raise FormatError("run.user", "not in the image's /etc/passwd")


def start(
    measurement: Callable[[list[str]], Measurement],
    supervisor: type[FakeSupervisor] = FakeSupervisor,
    push: Callable[..., None] = lambda *_: None,
    owner: object = None,
) -> list[str]:
    diary: list[str] = []
    loop = EventLoop()
    teardown, service = SimpleNamespace(push=push), SimpleNamespace(owner=owner)
    guest = SimpleNamespace(loop=loop, teardown=teardown, service=service, event=lambda _: None)
    image = SimpleNamespace(manifest=Digest("ab" * 32))
    configured = SimpleNamespace(
        config=SimpleNamespace(limits=SimpleNamespace(stop_grace_seconds=1)),
        manifest=SimpleNamespace(
            containers=[SimpleNamespace(name=name, image="shop") for name in NAMES]
        ),
        measurement=measurement(diary),
    )
    supervisors = {name: FakeSupervisor(name, diary) for name in NAMES}
    supervisors["db"] = supervisor("db", diary)

    async def live() -> None:
        """As PID 1 does: the phases are a task beside the main one, which waits for it."""
        starting = pod._start_in_order(
            cast("Guest", guest),
            cast("Configured", configured),
            ORDER,
            cast("dict[str, Supervisor]", supervisors),
            cast("Pulled", SimpleNamespace(images={"shop": image})),
        )
        try:
            await loop.start(starting, "life").join()
        except CcinitError as error:
            diary.append(error.reason)

    loop.run(live())
    return diary


def test_each_group_is_measured_before_it_starts() -> None:
    diary = start(Measurement)
    assert diary == [
        "measured migrate",
        "started migrate",
        "measured db",
        "measured cache",
        "started db",
        "started cache",
        "measured web",
        "started web",
    ]


@pytest.mark.parametrize("name", ["migrate", "db", "web"])
def test_what_cannot_be_measured_does_not_start(name: str) -> None:
    diary = start(lambda kept: Measurement(kept, fails_for=name))
    assert diary[-1] == "event_log.register"
    assert f"started {name}" not in diary


def test_main_container_that_cannot_be_prepared_fails_the_start_and_no_background_task() -> None:
    """So that the host is told WORKLOAD_START and not INTERNAL."""
    diary = start(Measurement, UnpreparedSupervisor)
    assert diary[-1] == "run.user"
    assert "started web" not in diary


def test_step_that_ends_a_container_is_longer_than_all_that_it_waits_for() -> None:
    """Its grace, a `crun create` that is under way, and a `crun delete`: each names itself."""
    steps: dict[str, float] = {}

    def push(name: str, _undo: object, seconds: float) -> None:
        steps[name] = seconds

    start(Measurement, push=push)
    grace = 1
    assert steps.keys() == {"container db", "container cache", "container web"}
    assert min(steps.values()) > grace + 2 * OPERATION_SECONDS + _DRAIN_SECONDS


@pytest.mark.parametrize("owner", [None, SimpleNamespace(end_copies=object())])
def test_owners_copies_end_after_the_containers_if_there_is_an_owner_plane(owner: Any) -> None:
    """And so before what was set up in earlier phases: images and disks."""
    steps: list[tuple[str, object]] = []
    start(Measurement, push=lambda name, undo, *_: steps.append((name, undo)), owner=owner)
    names = [name for name, _ in steps]
    containers = ["container db", "container cache", "container web"]
    if owner is None:
        assert names == containers
    else:
        assert names == ["owner's copies", *containers]
        assert steps[0][1] is owner.end_copies


def test_container_that_cannot_be_cleared_away_is_told_when_it_is_stopped() -> None:
    loop = EventLoop()
    service = SimpleNamespace(stop_grace_seconds=None)
    guest = SimpleNamespace(loop=loop, service=service, event=lambda _: None)

    async def main() -> None:
        supervisor = cast("Supervisor", UnpreparedSupervisor("db", []))
        running = pod.Running(cast("Guest", guest), "db", supervisor, 1)
        await sleep(0)
        await running.stop()

    with pytest.raises(FormatError, match=r"run\.user"):
        loop.run(main())


class StoppableSupervisor(FakeSupervisor):
    """Runs until it is stopped, and remembers the grace that it was given."""

    def __init__(self, stop_grace_seconds: int | None) -> None:
        super().__init__("web", [])
        self.stop_grace_seconds = stop_grace_seconds
        self.graces: list[int] = []
        self._stopped = Event()

    async def run(self) -> Life:
        await self._stopped.wait()
        return self.life

    async def stop(self, grace_seconds: int) -> None:
        self.graces.append(grace_seconds)
        self._stopped.set()


@pytest.mark.parametrize(
    ("own", "asked", "grace"),
    [
        pytest.param(None, None, 10, id="the-pods"),
        pytest.param(20, None, 20, id="its-own"),
        pytest.param(20, 15, 15, id="host-shortens-its-own"),
        pytest.param(None, 0, 0, id="host-leaves-none"),
        pytest.param(None, 15, 10, id="host-cannot-extend"),
    ],
)
def test_host_may_shorten_the_time_to_end_but_not_extend_it(
    own: int | None, asked: int | None, grace: int
) -> None:
    loop, supervisor = EventLoop(), StoppableSupervisor(own)
    guest: Any = SimpleNamespace(loop=loop, service=SimpleNamespace(stop_grace_seconds=asked))

    async def main() -> None:
        running = pod.Running(guest, "web", cast("Supervisor", supervisor), 10)
        assert running.max_grace_seconds == (own or 10)
        await running.stop()
        await running.stop()  # one that has ended gets no second signal

    loop.run(main())
    assert supervisor.graces == [grace]


class EndingSupervisor(FakeSupervisor):
    """Ends by itself after so many turns of the loop, with this exit code."""

    def __init__(self, turns: int, code: int) -> None:
        super().__init__(f"after {turns}", [])
        self.turns = turns
        self.last_status = ExitStatus(code=code, signal=0)

    async def run(self) -> Life:
        for _ in range(self.turns):
            await sleep(0)
        failed = self.last_status.code != 0
        self.life = Life(state=ContainerState.FAILED if failed else ContainerState.DONE, starts=1)
        return self.life


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        pytest.param(((3, 0), (2, 0), (1, 0)), 0, id="all-well"),
        pytest.param(((1, 3), (2, 7)), 7, id="manifests-order"),
        pytest.param(((2, 3), (1, 7)), 3, id="the-other-way-round"),
        pytest.param(((3, 0), (1, 3), (2, 7)), 7, id="well-at-last"),
    ],
)
def test_pods_exit_code_goes_by_the_order_in_which_containers_ended(
    ends: tuple[tuple[int, int], ...], code: int
) -> None:
    loop = EventLoop()
    guest = cast("Guest", SimpleNamespace(loop=loop, event=lambda _: None))

    async def main() -> int | None:
        supervisors = [cast("Supervisor", EndingSupervisor(*end)) for end in ends]
        started = pod.Started(main=tuple(pod.Running(guest, "main", one, 1) for one in supervisors))
        assert started.exit_code() is None  # nothing has ended
        await started.run()
        return started.exit_code()

    assert loop.run(main()) == code


NETWORK = NetworkPlan(
    mac="52:54:00:cc:00:01", address="192.0.2.9", prefix=24, gateway="192.0.2.1",
    gateway_on_link=False, mtu=1500, dns=(),
)  # fmt: skip


class LimitedError(Exception):
    """The pod's memory would be limited now."""


def limit_of(
    monkeypatch: pytest.MonkeyPatch, *, total_bytes: int, tags_bytes: int = 0, ring_bytes: int
) -> int:
    """Return the limit that START gives all containers of a pod together."""

    def limit(*, max_bytes: int) -> None:
        raise LimitedError(max_bytes)

    monkeypatch.setattr(pod, "write_pod_files", lambda *_: None)
    monkeypatch.setattr(pod, "read_memory", lambda: {"MemTotal": total_bytes})
    monkeypatch.setattr(pod, "Cgroup", lambda _: SimpleNamespace(set_memory=limit))
    configured = SimpleNamespace(
        manifest=SimpleNamespace(name="shop", containers=(CONTAINER,)),
        config=SimpleNamespace(limits=Limits(log_ring_bytes=ring_bytes)),
    )
    start = pod.start(
        cast("Guest", None),
        cast("Configured", configured),
        cast("Attested", None),
        Unlocked(volumes={}, store="/store", tags_bytes=tags_bytes),
        cast("Pulled", None),
        NETWORK,
    )
    with pytest.raises(LimitedError) as limited:
        start.send(None)
    (max_bytes,) = limited.value.args
    assert isinstance(max_bytes, int)
    return max_bytes


@pytest.mark.parametrize("tags_bytes", [0, 256 << 20])
@pytest.mark.parametrize(
    ("ring_bytes", "beyond_bytes"), [(1 << 20, 0), (4 << 20, 0), (256 << 20, 252 << 20)]
)
def test_pods_limit_leaves_room_for_every_tag_of_its_scratch_and_for_a_log_that_nobody_collects(
    monkeypatch: pytest.MonkeyPatch, tags_bytes: int, ring_bytes: int, beyond_bytes: int
) -> None:
    """Else it would hold until much was written, and then take memory from the guest itself."""
    limit = limit_of(monkeypatch, total_bytes=1 << 30, tags_bytes=tags_bytes, ring_bytes=ring_bytes)
    assert limit == (1 << 30) - (96 << 20) - tags_bytes - beyond_bytes


def test_machine_without_memory_for_a_pod_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    needed, ring_bytes = (96 + 252) << 20, 256 << 20
    least = limit_of(monkeypatch, total_bytes=needed + (1 << 20), ring_bytes=ring_bytes)
    assert least == 1 << 20
    with pytest.raises(ConfigError) as refused:
        limit_of(monkeypatch, total_bytes=needed + (1 << 20) - 1, ring_bytes=ring_bytes)
    assert refused.value.reason == "pod.memory"


def test_pod_that_shares_nothing_has_no_first_process() -> None:
    configured = SimpleNamespace(manifest=SimpleNamespace(share=Share()))
    made = EventLoop().run(pod._share(cast("Guest", None), cast("Configured", configured)))
    assert made == SharedNamespaces()


def test_no_container_has_the_name_of_a_place_of_the_guests() -> None:
    """Each has a directory by its name, which must not be there before."""
    for place in (pod._CRUN, pod._SHARED):
        assert not place.startswith(f"{workloads._RUN}/")
