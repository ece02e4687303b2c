"""Debug: what is refused has changed nothing; what is granted happens in one order, to its end."""

from types import SimpleNamespace

import pytest

from ccinit.agent.phases import debug
from ccinit.agent.teardown import OWNER_PLANE_STEP, undoing
from ccinit.errors import (
    CcinitError,
    ChildError,
    ConfigError,
    FormatError,
    KernelError,
    PeerError,
    VerificationError,
)
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.initdata.guest_config import DebugConfig
from ccinit.formats.kbs.debug_grant import MAX_GRANT_SECONDS, DebugGrant
from ccinit.formats.planes.host_rpc import Phase, StateFlag
from ccinit.formats.pod.name import read_name
from ccinit.kernel.clock import boottime
from ccinit.kernel.task import Event, sleep
from ccinit.unlock.filesystem import LOST_WRITE
from ccinit.values import replace
from tests.unit.ccinit.agent.phases.debug_bench import GRANT, NOW, TOOLS, Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_register_comes_first_then_the_pod_ends_then_the_tools_are_there(bench: Bench) -> None:
    opened = bench.open()
    assert bench.steps == [
        "measured ccinit OpenDebug",
        "container web",
        "volume scratch",
        "mounted the disk",
    ]
    assert bench.secrets == [False, True]
    assert bench.guest.containers == {}
    assert bench.state.flags == StateFlag.DEBUG
    assert opened is bench.boundary.opened
    assert 590 < opened.ends_at - boottime() <= 600
    assert not bench.stopping.is_set()


def test_pod_goes_on_if_the_grant_says_so(bench: Bench) -> None:
    bench.answer = replace(GRANT, keep_pod=True)
    assert bench.open().grant.keep_pod
    assert bench.steps == ["measured ccinit OpenDebug", "mounted the disk"]
    assert bench.secrets == [True, True]
    assert list(bench.guest.containers) == ["web"]
    assert bench.state.flags == StateFlag.DEBUG


def test_host_sees_one_bit_and_the_phase_stays(bench: Bench) -> None:
    before = bench.state.report()
    bench.open()
    assert bench.state.report() == (before[0], before[1], before[2] + 1, 1)


def test_guest_ends_with_the_grant(bench: Bench) -> None:
    bench.answer = replace(GRANT, expires_s=NOW + 1)

    async def main() -> float:
        opened = await bench.boundary.open()
        assert not bench.stopping.is_set()
        await bench.stopping.wait()
        return boottime() - opened.ends_at

    assert 0 <= bench.run(main) < 1


def test_guest_ends_with_the_grant_even_if_the_pod_does_not(bench: Bench) -> None:
    bench.answer = replace(GRANT, expires_s=NOW + 1)

    async def never() -> None:
        await Event().wait()

    bench.teardown.push("container stuck", never)

    async def main() -> None:
        bench.loop.start(bench.boundary.open(), "caller")
        await bench.stopping.wait()
        assert bench.boundary.is_busy

    bench.run(main)
    assert bench.steps == ["measured ccinit OpenDebug"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PeerError("kbs.plugin_internal_error", "no grant"), "kbs.plugin_internal_error"),
        (VerificationError("debug.evidence_key", "forged"), "debug.evidence_key"),
        (VerificationError("debug.expired", "old"), "debug.expired"),
        (replace(GRANT, tools_root=RootHash(b"\xac" * 32)), "debug.tools_root"),
        (replace(GRANT, expires_s=NOW), "child.protocol"),
        (replace(GRANT, expires_s=NOW + MAX_GRANT_SECONDS + 1), "child.protocol"),
        (replace(GRANT, expires_s=(1 << 64) - 1), "child.protocol"),
    ],
)
def test_refused_or_forged_grant_changes_nothing(
    bench: Bench, answer: DebugGrant | CcinitError, reason: str
) -> None:
    bench.answer = answer
    with pytest.raises(CcinitError) as refused:
        bench.open()
    assert refused.value.reason == reason
    bench.require_untouched()


def test_without_declared_tools_nothing_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.config.debug = DebugConfig()
    monkeypatch.setattr(debug, "find_tools_disk", lambda _configured: None)
    monkeypatch.setattr(debug, "request_debug_grant", None)
    with pytest.raises(ConfigError) as refused:
        bench.open()
    assert refused.value.reason == "debug.tools"
    bench.require_untouched()


@pytest.mark.parametrize("unseen", ["platform", "passport"])
@pytest.mark.parametrize("allowed", [False, True])
def test_register_that_the_kbs_does_not_see_needs_the_measured_word(
    bench: Bench,
    allowed: bool,  # noqa: FBT001
    unseen: str,
) -> None:
    if unseen == "platform":
        bench.measurement.has_register = False
    else:
        bench.config.kbs.passport = "another service"
    bench.config.debug = DebugConfig(allowed=allowed, tools=TOOLS)
    if allowed:
        bench.open()
        assert bench.steps[0] == "measured ccinit OpenDebug"
        return
    with pytest.raises(ConfigError) as refused:
        bench.open()
    assert refused.value.reason == "debug.not_allowed"
    bench.require_untouched()


def test_boundary_that_cannot_be_measured_is_not_crossed(bench: Bench) -> None:
    bench.measurement.failure = VerificationError("event_log.register", "somebody else's")
    with pytest.raises(VerificationError):
        bench.open()
    bench.require_untouched()


@pytest.mark.parametrize(
    ("failure", "known"),
    [
        pytest.param(KernelError(5, "mount", "tools"), KernelError, id="kernel"),
        pytest.param(OSError(24, "no descriptors"), KernelError, id="bare"),
        pytest.param(ChildError("crun.run", "no environment"), ChildError, id="program"),
    ],
)
def test_what_fails_behind_the_boundary_ends_the_guest(
    bench: Bench, failure: CcinitError | OSError, known: type[CcinitError]
) -> None:
    bench.mount_failure = failure
    with pytest.raises(known):
        bench.open()
    assert bench.stopping.is_set()
    assert bench.state.flags == StateFlag.DEBUG
    assert bench.boundary.opened is None
    assert any("debug: failed" in event for event in bench.events)


def test_guest_that_began_to_end_while_the_kbs_was_asked_measures_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def request(*_: object) -> tuple[DebugGrant, int]:
        bench.state.enter(Phase.STOP)
        return GRANT, NOW

    monkeypatch.setattr(debug, "request_debug_grant", request)
    with pytest.raises(ConfigError) as refused:
        bench.open()
    assert refused.value.reason == "owner.not_now"
    assert (bench.steps, bench.state.flags, bench.stopping.is_set()) == ([], 0, False)
    assert bench.secrets == [True, True]


@pytest.mark.parametrize("keep_pod", [False, True])
def test_guest_that_began_to_end_at_the_boundary_opens_nothing(
    bench: Bench,
    keep_pod: bool,  # noqa: FBT001
) -> None:
    bench.answer = replace(GRANT, keep_pod=keep_pod)
    bench.measurement.then = lambda: bench.state.enter(Phase.STOP)
    with pytest.raises(ConfigError) as refused:
        bench.open()
    assert refused.value.reason == "owner.not_now"
    assert bench.steps == ["measured ccinit OpenDebug"]  # the end has the pod to stop
    assert bench.secrets == [True, True]
    assert bench.boundary.opened is None


def test_pod_that_does_not_close_ends_the_guest_before_anything_is_open(bench: Bench) -> None:
    def fail() -> None:
        raise KernelError(16, "umount2", "scratch")

    bench.teardown.push("volume stuck", undoing(fail))
    with pytest.raises(KernelError):
        bench.open()
    assert bench.stopping.is_set()
    assert "mounted the disk" not in bench.steps
    assert bench.secrets == [False, True]


def test_volume_that_lost_a_write_but_is_closed_keeps_nobody_from_looking(bench: Bench) -> None:
    def fail() -> None:
        raise VerificationError(LOST_WRITE, "data: errno 5 (EIO)")

    bench.teardown.push("volume data", undoing(fail))
    bench.open()
    assert "mounted the disk" in bench.steps
    assert any("teardown of volume data failed" in event for event in bench.events)


def test_client_that_goes_away_leaves_no_half_opened_guest(bench: Bench) -> None:
    async def main() -> None:
        bench.may_mount.clear()
        task = bench.loop.start(bench.boundary.open(), "caller")
        while "volume scratch" not in bench.steps:
            await sleep(0)
        await task.stop()
        assert bench.boundary.opened is None
        bench.may_mount.set()
        while bench.boundary.is_busy:
            await sleep(0)

    bench.run(main)
    assert bench.steps[-1] == "mounted the disk"
    assert bench.boundary.opened is not None


def test_client_that_goes_away_before_the_boundary_leaves_nothing(bench: Bench) -> None:
    async def main() -> None:
        task = bench.loop.start(bench.boundary.open(), "caller")
        while not bench.boundary.is_busy:
            await sleep(0)
        await task.stop()
        await sleep(0.01)

    bench.run(main)
    bench.require_untouched()


def test_end_of_the_guest_waits_for_the_pods_steps_and_takes_the_rest(bench: Bench) -> None:
    may_end = Event()

    async def slow() -> None:
        await may_end.wait()
        bench.steps.append("container slow")

    bench.teardown.push("container slow", slow)

    async def attempt() -> str:
        with pytest.raises(ConfigError) as refused:
            await bench.boundary.open()
        return refused.value.reason

    async def main() -> None:
        opening = bench.loop.start(attempt(), "caller")
        while not bench.state.is_debug:
            await sleep(0)
        bench.state.enter(Phase.STOP)
        ending = bench.loop.start(bench.teardown.run(), "end")
        await sleep(0.01)
        assert bench.steps == ["measured ccinit OpenDebug"]
        may_end.set()
        await ending.join()
        assert await opening.join() == "owner.not_now"

    bench.run(main)
    assert bench.steps == [
        "measured ccinit OpenDebug",
        "container slow",
        "container web",
        "volume scratch",
        OWNER_PLANE_STEP,
        "secrets",
    ]


def test_tools_device_has_no_name_that_a_volumes_device_can_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []

    def activate(_control: object, name: str, *_others: object) -> None:
        names.append(name)
        raise KernelError(16, "dm.create", name)

    open_environment = debug._open_environment  # the bench replaces it
    bench = Bench(monkeypatch)
    monkeypatch.setattr(debug, "_open_environment", open_environment)
    monkeypatch.setattr(debug, "DmControl", lambda: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(debug, "make_directory", lambda path, _mode: path)
    monkeypatch.setattr(debug, "activate_verity", activate)
    with pytest.raises(KernelError):
        bench.open()
    (name,) = names
    with pytest.raises(FormatError):
        read_name(Fields({"name": name}, "volume"), "name", "volume")
