"""What is measured of a boot, in which order, and what the owner reads of it."""

from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from ccinit.agent.jobs.messages import ExtendReply, ExtendRequest
from ccinit.agent.platform.measurement import (
    MAX_WORKLOAD_BYTES,
    RuntimeMeasurement,
    container_starts,
    debug_opens,
    image_pulled,
    workload_event,
)
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Node, Platform
from ccinit.errors import (
    CcinitError,
    ChildError,
    DeadlineError,
    FormatError,
    LimitExceededError,
    VerificationError,
)
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.tcg.event_log import Algorithm, encode_header, parse_event_log
from ccinit.kernel.task import Turn, sleep
from ccinit.measure.event_log import Extension, extend_register

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

T = TypeVar("T")

MANIFEST = Digest("ab" * 32)
REFERENCE = f"registry.example/shop@{MANIFEST}"
PULLED = image_pulled(REFERENCE, MANIFEST)
STARTS = container_starts("web", MANIFEST)
OPENS = debug_opens(
    DebugGrant(
        evidence_key=b"\x01" * 32,
        expires_s=1_800_000_000,
        tools_root=RootHash(b"\x02" * 32),
        keep_pod=False,
    )
)


class Register:
    """In memory."""

    def __init__(self, algorithm: Algorithm = Algorithm.SHA384) -> None:
        self.algorithm = algorithm
        self.value = bytes(algorithm.digest_bytes)
        self.extends = 0

    def extend(self, digest: bytes) -> None:
        self.extends += 1
        self.value = self.algorithm.hash(self.value + digest)

    def read(self) -> bytes:
        return self.value


class FakeChildren:
    """Does the job in this process, and dies as often as it is told to, before or after it."""

    def __init__(self) -> None:
        self.register = Register()
        self.boundary = Register(Algorithm.SHA256)
        self.requests: list[ExtendRequest] = []
        self.deaths: list[str] = []

    async def run(
        self,
        role: Role,
        request: ExtendRequest,
        reply: type[ExtendReply],
        *,
        seconds: float,
        fds: dict[str, int],
    ) -> ExtendReply:
        assert role is Role.EXTEND
        assert seconds > 0
        assert list(fds) == ["register"]
        self.requests.append(request)
        death = self.deaths.pop(0) if self.deaths else ""
        if death == "stays":
            self._extend(request)
            await sleep(60)
        if death == "late":  # the hardware goes on with what it was given
            self._extend(request)
            raise DeadlineError("child.late", "extend: 60 s")
        if death == "before":
            raise ChildError("child.ended", "killed")
        value = self._extend(request)
        if death == "after":
            raise ChildError("child.ended", "killed")
        return reply(value=value)

    def _extend(self, request: ExtendRequest) -> bytes:
        extension = Extension(before=request.before, digests=request.digests)
        register = self.boundary if request.boundary else self.register
        return extend_register(register, extension, register.algorithm)


class Bench:
    """A measurement with its surroundings."""

    def __init__(self, register: Node | None, tee: Tee = Tee.TDX) -> None:
        self.children = FakeChildren()
        self.sealed: list[str] = []
        self.given_up: list[tuple[CcinitError, Code]] = []
        guest = SimpleNamespace(
            event=self.sealed.append,
            children=self.children,
            evidence_turn=Turn(),
            give_up=lambda *why: self.given_up.append(why),
        )
        self.turn = guest.evidence_turn
        platform = Platform(tee=tee, register=register)
        self.measurement = RuntimeMeasurement(cast("Guest", guest), platform)

    def measure(self) -> None:
        finish(self.measurement.measure())

    def measure_of_container(self, deaths: tuple[str, ...]) -> None:
        """Measure what a container says; it is told that this failed."""
        self.children.deaths = list(deaths)
        event = workload_event("web", "app", "seen", "it")
        with pytest.raises((ChildError, DeadlineError)):
            finish(self.measurement.measure_for_workload(event))

    def replays(self) -> bool:
        """Whether what goes with evidence leads to what the register holds."""
        records = encode_header(Algorithm.SHA384) + records_of(self)
        log = parse_event_log(records, Algorithm.SHA384)
        return log.replay(4, Algorithm.SHA384) == self.children.register.value


def of_boundary(bench: Bench, deaths: tuple[str, ...] = ()) -> ExtendRequest:
    """Measure that debug opens; return the last request."""
    bench.children.deaths = list(deaths)
    finish(bench.measurement.measure_debug(OPENS))
    return bench.children.requests[-1]


def finish(body: Coroutine[object, None, T]) -> T:
    """Run what never waits."""
    with pytest.raises(StopIteration) as end:
        body.send(None)
    return cast("T", end.value.value)


def records_of(bench: Bench) -> bytes:
    """Return what would go with evidence."""
    return finish(bench.measurement.records())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    node = tmp_path / "rtmr3"
    node.write_bytes(bytes(48))
    return Bench(Node(name="register", path=str(node), writable=True))


def test_events_have_canonical_json_as_content() -> None:
    assert str(PULLED) == (
        "github.com/confidential-containers PullImage "
        f'{{"digest":"sha256:{"ab" * 32}","image":"{REFERENCE}"}}'
    )
    assert str(STARTS) == (
        f'ccinit StartContainer {{"container":"web","image":"sha256:{"ab" * 32}"}}'
    )


def test_noted_events_are_measured_in_their_order_by_one_child(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    assert bench.children.requests == []
    bench.measurement.note(STARTS)
    bench.measure()
    (request,) = bench.children.requests
    digests = tuple(event.digest(Algorithm.SHA384) for event in (PULLED, STARTS))
    assert request == ExtendRequest(tee=Tee.TDX, before=bytes(48), digests=digests)
    log = parse_event_log(encode_header(Algorithm.SHA384) + records_of(bench),
                          Algorithm.SHA384)  # fmt: skip
    assert log.replay(4, Algorithm.SHA384) == bench.children.register.value
    assert bench.sealed == [
        f"event for RTMR 3: {PULLED}",
        f"event for RTMR 3: {STARTS}",
        f"RTMR 3 holds {bench.children.register.value.hex()}",
    ]


def test_next_events_go_on_where_the_last_ended(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    bench.measure()
    value = bench.children.register.value
    bench.measurement.note(STARTS)
    bench.measure()
    assert bench.children.requests[1].before == value
    assert bench.children.register.extends == 2


def test_nothing_is_measured_while_a_quote_is_made(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    finish(bench.turn.__aenter__())
    waiting = bench.measurement.measure()
    waiting.send(None)
    assert bench.children.register.extends == 0
    finish(bench.turn.__aexit__())
    finish(waiting)
    assert bench.children.register.extends == 1


@pytest.mark.parametrize("death", ["before", "after"])
def test_child_that_died_is_followed_by_one_that_measures_nothing_twice(
    bench: Bench, death: str
) -> None:
    bench.children.deaths = [death]
    bench.measurement.note(PULLED)
    bench.measure()
    assert bench.children.requests[0] == bench.children.requests[1]
    assert bench.children.register.extends == 1
    assert records_of(bench)


def test_second_death_ends_the_boot(bench: Bench) -> None:
    bench.children.deaths = ["before", "before"]
    bench.measurement.note(PULLED)
    with pytest.raises(ChildError) as caught:
        bench.measurement.measure().send(None)
    assert caught.value.reason == "child.ended"
    assert bench.given_up == []  # the phase fails, and needs no other cause


def test_register_that_somebody_else_extended_ends_the_boot(bench: Bench) -> None:
    bench.children.register.extend(bytes(48))
    bench.measurement.note(PULLED)
    with pytest.raises(VerificationError) as caught:
        bench.measurement.measure().send(None)
    assert caught.value.reason == "event_log.register"


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SNP])
def test_without_a_register_events_are_in_the_sealed_log_which_says_so(tee: Tee) -> None:
    bench = Bench(None, tee)
    bench.measurement.note(PULLED)
    bench.measure()
    assert bench.sealed == [f"event, no register to measure it into: {PULLED}"]
    assert bench.children.requests == []
    assert records_of(bench) == b""


def test_event_of_a_container_shows_whose_it_is() -> None:
    assert str(workload_event("web", "app", "seen", "it")) == "workload/web/app seen it"
    for reason, *texts in (
        ("aael.domain", "", "seen", "it"),
        ("aael.domain", "a b", "seen", "it"),
        ("aael.content", "app", "seen", "it\nccinit"),
    ):
        with pytest.raises(FormatError) as refused:
            workload_event("web", *texts)
        assert refused.value.reason == reason


def test_events_of_containers_leave_room_for_the_guests_own(bench: Bench) -> None:
    event = workload_event("web", "app", "seen", "x" * 4000)
    for _ in range(MAX_WORKLOAD_BYTES // 4200):
        finish(bench.measurement.measure_for_workload(event))
    with pytest.raises(LimitExceededError) as caught:
        finish(bench.measurement.measure_for_workload(event))
    assert caught.value.reason == "event_log.workload"
    assert 0 < len(records_of(bench)) <= MAX_WORKLOAD_BYTES
    bench.measurement.note(STARTS)
    bench.measure()
    assert records_of(bench).count(b"StartContainer") == 1


def test_containers_event_does_not_take_what_was_noted_for_the_guest(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    finish(bench.measurement.measure_for_workload(workload_event("web", "app", "seen", "it")))
    bench.measure()
    assert [len(request.digests) for request in bench.children.requests] == [1, 1]


@pytest.fixture(params=[Tee.TPM, Tee.SVSM])
def tpm(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    node = tmp_path / "tpmrm0"
    node.write_bytes(b"")
    return Bench(Node(name="register", path=str(node), writable=True), request.param)


def test_debug_boundary_of_a_tpm_is_a_register_of_its_own(tpm: Bench) -> None:
    request = of_boundary(tpm)
    assert request.boundary
    assert request.digests == (OPENS.digest(Algorithm.SHA256),)
    value = Algorithm.SHA256.hash(bytes(32) + request.digests[0])
    assert (tpm.children.boundary.value, tpm.children.register.extends) == (value, 0)
    assert records_of(tpm) == b""
    assert tpm.sealed == [f"event for PCR 15: {OPENS}", f"PCR 15 holds {value.hex()}"]
    assert str(OPENS) == (
        f'ccinit OpenDebug {{"evidence_key":"{"01" * 32}","expires_s":"1800000000",'
        f'"keep_pod":"false","tools_root":"{"02" * 32}"}}'
    )


@pytest.mark.parametrize("death", ["before", "after"])
def test_debug_boundary_is_measured_once_whoever_dies(tpm: Bench, death: str) -> None:
    of_boundary(tpm, (death,))
    assert tpm.children.boundary.extends == 1


def test_debug_boundary_that_was_used_is_not_crossed_again(tpm: Bench) -> None:
    tpm.children.boundary.extend(bytes(32))
    with pytest.raises(VerificationError) as caught:
        finish(tpm.measurement.measure_debug(OPENS))
    assert caught.value.reason == "event_log.register"
    assert tpm.children.boundary.extends == 1


def test_debug_boundary_of_a_td_is_an_event_among_the_others(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    bench.measure()
    request = of_boundary(bench)
    assert (request.boundary, bench.children.boundary.extends) == (False, 0)
    assert records_of(bench).count(b"OpenDebug") == 1
    assert bench.measurement.is_proven


def test_debug_boundary_without_a_register_is_in_the_sealed_log() -> None:
    bench = Bench(None, Tee.SNP)
    finish(bench.measurement.measure_debug(OPENS))
    assert bench.sealed == [f"event, no register to measure it into: {OPENS}"]
    assert not bench.measurement.is_proven


@pytest.mark.parametrize(
    "deaths", [("late",), ("before", "before"), ("before", "after"), ("after", "before")]
)
def test_evidence_finishes_a_measurement_that_failed(bench: Bench, deaths: tuple[str, ...]) -> None:
    bench.measure_of_container(deaths)
    assert bench.given_up == []
    assert bench.replays()
    assert bench.children.register.extends == 1
    extended = len(bench.children.requests)
    assert bench.replays()
    assert len(bench.children.requests) == extended  # nothing is pending any more


def test_next_measurement_finishes_one_that_failed(bench: Bench) -> None:
    bench.measure_of_container(("late",))
    bench.measurement.note(STARTS)
    bench.measure()
    assert bench.children.register.extends == 2
    assert bench.replays()


def test_evidence_with_a_log_that_cannot_be_finished_is_not_made(bench: Bench) -> None:
    bench.measure_of_container(("late",))
    bench.children.deaths = ["late"]
    with pytest.raises(DeadlineError) as caught:
        records_of(bench)
    assert caught.value.reason == "child.late"
    assert bench.replays()


def test_measurement_whose_caller_goes_away_is_finished_before_evidence(bench: Bench) -> None:
    bench.children.deaths = ["stays"]
    caller = bench.measurement.measure_for_workload(workload_event("web", "app", "seen", "it"))
    caller.send(None)
    caller.close()
    assert bench.children.register.extends == 1
    assert bench.replays()


def test_containers_event_into_a_register_of_somebody_else_ends_the_guest(bench: Bench) -> None:
    finish(bench.measurement.measure_for_workload(workload_event("web", "app", "seen", "it")))
    assert bench.given_up == []
    bench.children.register.extend(bytes(48))
    with pytest.raises(VerificationError) as caught:
        finish(bench.measurement.measure_for_workload(workload_event("web", "app", "seen", "it")))
    assert caught.value.reason == "event_log.register"
    assert bench.given_up == [(caught.value, Code.INTERNAL)]


def test_evidence_over_a_register_of_somebody_else_ends_the_guest(bench: Bench) -> None:
    bench.measure_of_container(("before", "before"))
    bench.children.register.extend(bytes(48))
    with pytest.raises(VerificationError) as caught:
        records_of(bench)
    assert bench.given_up == [(caught.value, Code.INTERNAL)]
