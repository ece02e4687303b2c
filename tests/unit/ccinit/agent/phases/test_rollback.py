"""A volume's counter during one boot: what is told to whom, and when nothing is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.jobs.messages.kbs import CounterStep
from ccinit.agent.phases import rollback
from ccinit.agent.phases.rollback import Anchor
from ccinit.agent.processes.running_child import REAP_SECONDS
from ccinit.agent.teardown import STEP_SECONDS
from ccinit.errors import CcinitError, DeadlineError, PeerError
from ccinit.formats.kbs.rollback_counter import HOLDER_BYTES, counter_uri
from ccinit.formats.pod.volume import RollbackAnchor
from ccinit.kernel.event_loop import EventLoop
from ccinit.unlock.rollback import read_counter, write_counter

URI = counter_uri("shop", "data")


class Kbs:
    """Counts as it is told to; notes what the volume had reached by then."""

    def __init__(self, counter: int, directory: Path) -> None:
        self.counter = counter
        self.holders: list[bytes] = []
        self.told: list[tuple[int, int]] = []
        self.seconds: list[float] = []
        self.lies = False
        self.failure: CcinitError | None = None
        self._directory = directory

    async def request(
        self, _guest: object, _configured: object, wanted: object, **what: Any
    ) -> Any:
        assert wanted == ()
        (step,) = what["counters"]
        self.seconds.append(what["max_seconds"])
        assert isinstance(step, CounterStep)
        assert step.uri == URI
        assert step.advance is not None
        if self.failure is not None:
            raise self.failure
        self.told.append((step.advance.to, read_counter(str(self._directory))))
        self.holders.append(step.advance.holder)
        self.counter = step.advance.to
        return SimpleNamespace(counters=(self.counter - self.lies,))


class Boot:
    """One boot of a guest with the volume."""

    def __init__(self, kbs: Kbs) -> None:
        self.events: list[str] = []
        self.state = SimpleNamespace(is_debug=False)
        guest: Any = SimpleNamespace(event=self.events.append, state=self.state)
        configured: Any = SimpleNamespace(manifest=SimpleNamespace(name="shop"))
        attested: Any = SimpleNamespace(counters={URI: kbs.counter})
        volume: Any = SimpleNamespace(name="data", rollback=RollbackAnchor.KBS_COUNTER)
        anchor = Anchor.of(guest, configured, attested, volume)
        assert anchor is not None
        self.anchor = anchor

    def open(self, directory: Path) -> None:
        EventLoop().run(self.anchor.open(str(directory)))

    def close(self) -> None:
        self.anchor.write()
        self.anchor.note_closed()
        self.tell()

    def tell(self) -> None:
        EventLoop().run(self.anchor.tell_kbs())


@pytest.fixture
def kbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kbs:
    made = Kbs(0, tmp_path)
    monkeypatch.setattr(rollback, "request_resources", made.request)
    return made


def refusal(boot: Boot, directory: Path) -> str:
    with pytest.raises(CcinitError) as refused:
        boot.open(directory)
    return refused.value.reason


def test_volume_is_ahead_of_the_kbs_at_every_step(kbs: Kbs, tmp_path: Path) -> None:
    first = Boot(kbs)
    first.open(tmp_path)
    first.close()
    assert kbs.told == [(1, 1), (2, 2)]
    assert first.events == [f"rollback counter of volume data is {one}" for one in (1, 2)]
    second = Boot(kbs)
    second.open(tmp_path)
    assert kbs.told[2:] == [(3, 3)]


def test_boot_has_one_holder_and_the_next_another(kbs: Kbs, tmp_path: Path) -> None:
    first = Boot(kbs)
    first.open(tmp_path)
    first.close()
    Boot(kbs).open(tmp_path)
    assert kbs.holders[0] == kbs.holders[1] != kbs.holders[2]
    assert {len(holder) for holder in kbs.holders} == {HOLDER_BYTES}


def test_volume_one_ahead_after_a_crash_is_opened(kbs: Kbs, tmp_path: Path) -> None:
    write_counter(str(tmp_path), 8)
    kbs.counter = 7
    Boot(kbs).open(tmp_path)
    assert kbs.told == [(8, 8)]


@pytest.mark.parametrize(("found", "reason"), [(6, "volume.rollback"), (9, "volume.counter_ahead")])
def test_volume_of_another_age_is_refused_and_nothing_moves(
    kbs: Kbs, tmp_path: Path, found: int, reason: str
) -> None:
    kbs.counter = 7
    write_counter(str(tmp_path), found)
    assert refusal(Boot(kbs), tmp_path) == reason
    assert (kbs.told, read_counter(str(tmp_path))) == ([], found)
    write_counter(str(tmp_path), 7)
    Boot(kbs).open(tmp_path)


def test_kbs_that_is_elsewhere_than_it_was_told_is_refused(kbs: Kbs, tmp_path: Path) -> None:
    kbs.lies = True
    assert refusal(Boot(kbs), tmp_path) == "volume.counter_reply"


def test_volume_that_a_kbs_has_counted_cannot_be_a_blank_disk(kbs: Kbs) -> None:
    assert Boot(kbs).anchor.may_create
    kbs.counter = 1
    assert not Boot(kbs).anchor.may_create


def test_volume_without_a_clean_close_is_not_told(kbs: Kbs, tmp_path: Path) -> None:
    for steps in ((), ("write",), ("note_closed",)):
        boot = Boot(kbs)
        boot.open(tmp_path)
        told = list(kbs.told)
        for step in steps:
            getattr(boot.anchor, step)()
        boot.tell()
        assert kbs.told == told


def test_kbs_has_less_time_at_the_end_than_at_the_beginning(kbs: Kbs, tmp_path: Path) -> None:
    """And less than a step of the teardown, which would end it without a reason."""
    boot = Boot(kbs)
    boot.open(tmp_path)
    boot.close()
    assert kbs.seconds == [float("inf"), 30]
    assert kbs.seconds[1] + REAP_SECONDS < STEP_SECONDS


def test_close_that_the_kbs_does_not_hear_leaves_the_volume_one_ahead(
    kbs: Kbs, tmp_path: Path
) -> None:
    boot = Boot(kbs)
    boot.open(tmp_path)
    kbs.failure = PeerError("net.connect", "gone")
    with pytest.raises(PeerError):
        boot.close()
    assert (kbs.counter, read_counter(str(tmp_path))) == (1, 2)
    kbs.failure = None
    Boot(kbs).open(tmp_path)
    assert kbs.told[-1] == (2, 2)


def test_volume_that_asks_for_no_anchor_has_none() -> None:
    volume: Any = SimpleNamespace(name="data", rollback=RollbackAnchor.NONE)
    unused: Any = None
    assert Anchor.of(unused, unused, unused, volume) is None


@pytest.mark.parametrize(
    "failure",
    [
        PeerError("kbs.attestation_error", "evidence refused: pcr.15"),
        DeadlineError("child.late", "kbs: not done within 30 s"),
    ],
)
def test_close_for_debug_does_not_fail_because_the_kbs_refuses_a_guest_in_debug(
    failure: CcinitError, kbs: Kbs, tmp_path: Path
) -> None:
    boot = Boot(kbs)
    boot.open(tmp_path)
    kbs.failure = failure
    boot.state.is_debug = True
    boot.close()
    assert boot.events[-1].startswith("rollback counter of volume data is left to the next boot: ")
    kbs.failure = None
    Boot(kbs).open(tmp_path)
    assert kbs.told[1:] == [(2, 2)]
