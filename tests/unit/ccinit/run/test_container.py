"""A container's life and its restarts (R75)."""

from itertools import product

import pytest

from ccinit.formats.pod.container import Restart
from ccinit.run.container import (
    FINAL_STATES,
    STABLE_SECONDS,
    TRANSITIONS,
    ContainerEvent,
    ContainerState,
    Life,
    next_delay,
    next_life,
)


def live(policy: Restart, *events: ContainerEvent) -> Life:
    life = Life()
    for event in events:
        life = next_life(life, event, policy)
    return life


CREATE, START, GOOD, BAD, STOP = (
    ContainerEvent.CREATE,
    ContainerEvent.START,
    ContainerEvent.EXIT_GOOD,
    ContainerEvent.EXIT_BAD,
    ContainerEvent.STOP,
)


@pytest.mark.parametrize(
    ("policy", "end", "state"),
    [
        (Restart.NEVER, GOOD, ContainerState.DONE),
        (Restart.NEVER, BAD, ContainerState.FAILED),
        (Restart.ON_FAILURE, GOOD, ContainerState.DONE),
        (Restart.ON_FAILURE, BAD, ContainerState.RETRYING),
        (Restart.ALWAYS, GOOD, ContainerState.RETRYING),
        (Restart.ALWAYS, BAD, ContainerState.RETRYING),
    ],
)
def test_r75_exit_is_final_or_not_as_the_policy_says(
    policy: Restart, end: ContainerEvent, state: ContainerState
) -> None:
    life = live(policy, CREATE, START, end)
    assert (life.state, life.starts) == (state, 1)
    assert life.is_final == (state in FINAL_STATES)


@pytest.mark.parametrize("policy", Restart)
def test_stop_is_final_under_every_policy(policy: Restart) -> None:
    for events in ((), (CREATE,), (CREATE, START)):
        assert live(policy, *events, STOP).state is ContainerState.STOPPED


def test_start_that_fails_is_a_bad_exit() -> None:
    assert live(Restart.NEVER, BAD).state is ContainerState.FAILED
    assert live(Restart.ALWAYS, CREATE, BAD).state is ContainerState.RETRYING
    assert live(Restart.ALWAYS, BAD, CREATE, START).starts == 1


def test_event_that_cannot_happen_is_a_bug() -> None:
    for state, event in product(ContainerState, ContainerEvent):
        if (state, event) not in TRANSITIONS:
            with pytest.raises(RuntimeError):
                next_life(Life(state=state), event, Restart.NEVER)


def test_final_states_have_no_way_out() -> None:
    assert not {state for state, _ in TRANSITIONS} & FINAL_STATES


def test_r75_pauses_double_up_to_a_minute() -> None:
    life, delays = Life(), []
    for _ in range(9):
        for event in (CREATE, START, BAD):
            life = next_life(life, event, Restart.ALWAYS, ran_seconds=1)
        delays.append(life.delay_seconds)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert life.starts == 9


def test_pause_after_a_long_run_is_short_again() -> None:
    assert next_delay(60, STABLE_SECONDS - 1) == 60
    assert next_delay(60, STABLE_SECONDS) == 1
