"""What is measured of a boot, in which order, and what the owner reads of it."""

import pytest

from ccinit.agent.jobs.messages.measurement import ExtendRequest
from ccinit.agent.platform.measurement import (
    MAX_WORKLOAD_BYTES,
    workload_event,
)
from ccinit.errors import (
    ChildError,
    DeadlineError,
    FormatError,
    LimitExceededError,
    VerificationError,
)
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.tcg.event_log import Algorithm, encode_header, parse_event_log
from tests.fakes.machine.no_waiting import finish
from tests.unit.ccinit.agent.platform.measurement_bench import (
    PULLED,
    REFERENCE,
    STARTS,
    Bench,
    records_of,
)


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
    finish(bench.lock.__aenter__())
    waiting = bench.measurement.measure()
    waiting.send(None)
    assert bench.children.register.extends == 0
    finish(bench.lock.__aexit__())
    finish(waiting)
    assert bench.children.register.extends == 1


def test_measurement_that_goes_away_before_its_turn_leaves_what_was_noted(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    finish(bench.lock.__aenter__())
    waiting = bench.measurement.measure()
    waiting.send(None)
    waiting.close()
    finish(bench.lock.__aexit__())
    bench.measurement.note(STARTS)
    bench.measure()
    assert bench.children.register.extends == 2
    assert bench.replays()


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
