"""Renewal of the identity: what changes, what is told, and that a refusal changes nothing."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.jobs.messages.kbs import Wanted
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.planes import identity_renewal as module
from ccinit.agent.planes.identity_renewal import IdentityRenewal, wait_for
from ccinit.errors import PeerError, VerificationError
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri, parse_resource_uri
from ccinit.formats.kbs.tls_identity import ExpectedIdentity, VerifiedIdentity
from ccinit.kernel.event_loop import Event, EventLoop, TaskGroup, sleep
from ccinit.secret import Secret

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

URI = parse_resource_uri("kbs:///ccinit/shop/tls-identity")
OWNER = OwnerConfig(port=8444, client_ca_pem="roots")
NOW, DAY = 1_800_000_000, 86_400
FIRST_TOP = b"where the first chain led"


class EnoughError(Exception):
    """The test has seen what it wanted."""


class Bench:
    """A guest with an identity of a day; `outcomes` are what the KBS does, one for each question.

    A wait takes the time that it says, at once; when there is no outcome left the bench ends.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(NOW)
        self.outcomes: list[Grant | Exception] = []
        self.asked: list[tuple[Wanted, ...]] = []
        self.pauses: list[float] = []
        self.events: list[str] = []
        self.shown: list[bytes] = []
        self.doubted = Event()
        self.doubts: list[int] = []
        self.first = grant(b"first", ends=NOW + DAY, top_der=FIRST_TOP)
        self.grants: dict[KbsUri, Grant] = {URI: self.first}
        monkeypatch.setattr(module, "fetch_grants", self.fetch)
        monkeypatch.setattr(module, "sleep", self.sleep)
        monkeypatch.setattr(module, "wait_for", self.wait_for)
        monkeypatch.setattr(module, "realtime", lambda: self.now)
        monkeypatch.setattr(module, "random_fraction", lambda: 0.0)

    async def sleep(self, seconds: float) -> None:
        if not self.outcomes:
            raise EnoughError
        self.pauses.append(seconds)
        self.now += seconds

    async def wait_for(self, event: Event, seconds: float) -> None:
        assert event is self.doubted
        if len(self.pauses) in self.doubts:
            event.set()
        if event.is_set():
            return
        self.pauses[-1] += seconds
        self.now += seconds

    async def fetch(
        self, _guest: object, _configured: object, wanted: tuple[Wanted, ...]
    ) -> dict[KbsUri, Grant]:
        self.asked.append(wanted)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return {URI: outcome}

    def show(self, identity: Grant) -> None:
        self.shown.append(identity.secret.reveal())

    def keep(self, *outcomes: Grant | Exception) -> None:
        self.outcomes = list(outcomes)
        configured = SimpleNamespace(manifest=SimpleNamespace(name="shop"))
        renewal = IdentityRenewal(
            guest=cast(
                "Guest", SimpleNamespace(event=self.events.append, clock_doubted=self.doubted)
            ),
            configured=cast("Any", configured),
            attested=Attested(grants=self.grants),
            config=OWNER,
            show=self.show,
        )
        with pytest.raises(EnoughError):
            EventLoop().run(renewal.keep())

    @property
    def in_use(self) -> bytes:
        return self.grants[URI].secret.reveal()


def grant(data: bytes, *, ends: int = NOW + 2 * DAY, top_der: bytes = b"another") -> Grant:
    found = VerifiedIdentity(top_der=top_der, not_before=NOW, not_after=ends)
    return Grant(secret=Secret(data), create=False, identity=found)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_successor_is_shown_and_the_old_key_is_wiped(bench: Bench) -> None:
    second = grant(b"second")
    bench.keep(second)
    assert bench.pauses == [DAY / 2]
    assert (bench.shown, bench.in_use) == ([b"second"], b"second")
    assert len(bench.first.secret) == 0
    assert bench.events == ["identity: renewed, ends 2027-01-17T08:00:00Z"]


def test_each_successor_has_to_lead_where_the_first_one_led(bench: Bench) -> None:
    bench.keep(grant(b"second"), grant(b"third", ends=NOW + 3 * DAY))
    expected = ExpectedIdentity(pod="shop", roots_pem="roots", top_der=FIRST_TOP)
    wanted = Wanted(uri=URI, kind=EnvelopeKind.TLS_IDENTITY, identity=expected)
    assert bench.asked == [(wanted,), (wanted,)]
    assert bench.pauses == [DAY / 2, 0.75 * DAY]
    assert bench.shown == [b"second", b"third"]


def test_stored_identity_that_has_not_changed_is_nothing_to_speak_of(bench: Bench) -> None:
    same = [grant(b"first", ends=NOW + DAY) for _ in range(3)]
    bench.keep(*same)
    assert bench.pauses == [DAY / 2, DAY / 4, DAY / 8]
    assert (bench.shown, bench.events, bench.in_use) == ([], [], b"first")
    assert [len(one.secret) for one in same] == [0, 0, 0]  # copies of what is still in use


def test_failure_changes_nothing_is_told_and_is_tried_again(bench: Bench) -> None:
    bench.keep(
        PeerError("kbs.unreachable", "gone"),
        VerificationError("tls_identity.name", "of another pod"),
        OSError(24, "too many files"),
        grant(b"second"),
    )
    assert bench.pauses == [DAY / 2, 30, 60, 120]
    unreachable, refused, without_descriptor, _renewed = bench.events
    assert unreachable == "identity: not renewed: kbs.unreachable: gone"
    assert refused == "identity: not renewed: tls_identity.name: of another pod"
    assert without_descriptor.startswith("identity: not renewed: kernel.call: ")
    assert (bench.shown, bench.in_use) == ([b"second"], b"second")


def test_after_a_success_failures_count_from_the_beginning(bench: Bench) -> None:
    gone = PeerError("kbs.unreachable", "gone")
    bench.keep(gone, gone, grant(b"second"), gone, grant(b"third"))
    assert [bench.pauses[index] for index in (1, 2, 4)] == [30, 60, 30]


def test_until_it_succeeds_the_old_one_is_in_use(bench: Bench) -> None:
    bench.keep(PeerError("kbs.policy_deny", "no"))
    assert (bench.shown, bench.in_use, bench.grants[URI]) == ([], b"first", bench.first)


def test_clock_that_is_doubted_has_the_kbs_asked_at_once_but_not_all_the_time(
    bench: Bench,
) -> None:
    """One doubt before the first renewal, which is then over, and one before the third."""
    bench.doubts = [1, 3]
    successors = [grant(b"successor %d" % index, ends=NOW + 5 * DAY) for index in range(3)]
    bench.keep(*successors)
    assert (bench.pauses[0], bench.pauses[2]) == (900, 900)
    assert bench.pauses[1] == (5 * DAY - 900) / 2
    assert bench.shown == [b"successor 0", b"successor 1", b"successor 2"]


@pytest.mark.parametrize("is_set", [True, False])
def test_doubt_ends_a_wait_that_would_end_by_itself(is_set: bool) -> None:  # noqa: FBT001
    event, ended = Event(), list[str]()

    async def wait(seconds: float) -> None:
        await wait_for(event, seconds)
        ended.append(f"{seconds:g}")

    async def main() -> None:
        async with TaskGroup() as group:
            group.start(wait(3600 if is_set else 0.01), "wait")
            await sleep(0)
            if is_set:
                event.set()

    EventLoop().run(main())
    assert ended == ["3600" if is_set else "0.01"]


def test_identity_of_a_launch_is_kept(bench: Bench) -> None:
    """Nobody looked at it, and there is no KBS to ask."""
    bench.grants[URI] = Grant(secret=Secret(b"first"), create=False)
    configured: Any = SimpleNamespace(manifest=SimpleNamespace(name="shop"))
    renewal = IdentityRenewal(
        guest=cast("Any", None),
        configured=configured,
        attested=Attested(grants=bench.grants),
        config=OWNER,
        show=bench.show,
    )
    EventLoop().run(renewal.keep())
    assert (bench.asked, bench.pauses) == ([], [])
