"""The pace of a connection's calls: what waits, and for how long."""

import pytest

from ccinit.agent.planes.call_pace import CALLS_A_SECOND, CALLS_AT_ONCE, CallPace

START = 1000.0


def used_up() -> CallPace:
    pace = CallPace()
    assert sum(pace.wait_seconds(START) for _ in range(CALLS_AT_ONCE)) == pytest.approx(0, abs=1e-6)
    return pace


def test_calls_beyond_those_at_once_come_one_after_the_other() -> None:
    pace = used_up()
    waits = [pace.wait_seconds(START) for _ in range(3)]
    assert waits == pytest.approx([n / CALLS_A_SECOND for n in (1, 2, 3)])


def test_client_that_keeps_the_pace_never_waits() -> None:
    pace = used_up()
    times = [START + n / CALLS_A_SECOND for n in range(1, 1000)]
    assert sum(map(pace.wait_seconds, times)) == pytest.approx(0, abs=1e-6)


def test_silence_gives_back_calls_but_never_more_than_there_were() -> None:
    pace = used_up()
    later = START + 1e6
    assert sum(pace.wait_seconds(later) for _ in range(CALLS_AT_ONCE)) == pytest.approx(0, abs=1e-6)
    assert pace.wait_seconds(later) == pytest.approx(1 / CALLS_A_SECOND)
