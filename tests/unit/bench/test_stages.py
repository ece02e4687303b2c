from tests.bench.marks import Mark
from tests.bench.rows.stages import GOALS, USER_SPACE, split_ours, split_peer


def mark(milliseconds: float, *numbers: float) -> Mark:
    return Mark(milliseconds=milliseconds, numbers=numbers)


def test_split_ours_puts_the_guests_clock_beside_the_hosts() -> None:
    """The kernel began 2 s after power-on; PID 1 said at 7 s that it had begun at 6.5 s."""
    marks = {
        "start": mark(5000),
        "pid1": mark(9000, 7_000_000, 6_500_000),
        "listen": mark(10_000, 8_000_000, 500_000, 450_000),
    }
    assert split_ours(marks) == {
        "firmware": 2000,
        "kernel": 3000,
        "stage 0": 3500,
        "PID 1": 1500,
        USER_SPACE: 5000,
    }


def test_split_peer_takes_its_uptime_in_seconds() -> None:
    marks = {"start": mark(5000), "service": mark(20_000, 18.0)}
    assert split_peer(marks) == {"firmware": 2000, "kernel": 3000, USER_SPACE: 15_000}


def test_goals_of_stage_0_and_pid_1_are_that_of_user_space() -> None:
    assert GOALS["stage 0"] + GOALS["PID 1"] == GOALS[USER_SPACE] == 0.25
    assert list(GOALS) == list(
        split_ours(
            {"start": mark(0), "pid1": mark(0, 0, 0), "listen": mark(0)},
        )
    )
