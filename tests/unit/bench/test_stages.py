import pytest

from tests.bench.marks import Mark
from tests.bench.rows.stages import GOALS, USER_SPACE, split_ours, split_peer


def mark(milliseconds: float, *numbers: float) -> Mark:
    return Mark(milliseconds=milliseconds, numbers=numbers)


@pytest.mark.parametrize("rate", [1.0, 0.25, 3.0])
def test_split_ours_goes_by_the_hosts_clock_however_fast_the_guests_is(rate: float) -> None:
    """The kernel began 2 s after power-on, user space at 5 s, the root's PID 1 at 8.5 s."""
    marks = {
        "start": mark(5000, 3 * rate),
        "pid1": mark(9000, 7e6 * rate, 6.5e6 * rate),
        "listen": mark(10_000, 8e6 * rate, 500_000, 450_000),
    }
    assert split_ours(marks) == pytest.approx(
        {"firmware": 2000, "kernel": 3000, "stage 0": 3500, "PID 1": 1500, USER_SPACE: 5000}
    )


@pytest.mark.parametrize("rate", [1.0, 0.25, 3.0])
def test_split_peer_likewise(rate: float) -> None:
    marks = {"start": mark(5000, 3 * rate), "service": mark(20_000, 18 * rate)}
    assert split_peer(marks) == pytest.approx(
        {"firmware": 2000, "kernel": 3000, USER_SPACE: 15_000}
    )


def test_goals_of_stage_0_and_pid_1_are_that_of_user_space() -> None:
    assert GOALS["stage 0"] + GOALS["PID 1"] == GOALS[USER_SPACE] == 0.25
