"""When an identity is asked for anew."""

import pytest

from ccinit.agent.planes.renewal_schedule import (
    FIRST_PAUSE_SECONDS,
    LAST_PAUSE_SECONDS,
    MAX_SECONDS,
    MIN_SECONDS,
    seconds_to_renewal,
)
from ccinit.formats.kbs.tls_identity import VerifiedIdentity

BEGIN = 1_800_000_000
MINUTE, HOUR, DAY = 60, 3600, 86_400


def wait(life: int, passed: float, failures: int = 0, chance: float = 0.0) -> float:
    """Return how long, for an identity that began at BEGIN and is `passed` seconds old."""
    identity = VerifiedIdentity(top_der=b"", not_before=BEGIN, not_after=BEGIN + life)
    return seconds_to_renewal(identity, BEGIN + passed, failures, chance)


@pytest.mark.parametrize(
    ("life", "passed", "seconds"),
    [
        pytest.param(DAY, 0, DAY / 2, id="new"),
        pytest.param(DAY, DAY / 2, DAY / 4, id="at-half"),
        pytest.param(DAY, DAY - HOUR, HOUR / 2, id="towards-the-end"),
        pytest.param(MINUTE, 0, 30, id="the-shortest-that-is-minted"),
        pytest.param(MINUTE, 45, MIN_SECONDS, id="nearly-over"),
        pytest.param(DAY, DAY, MIN_SECONDS, id="ends-now"),
        pytest.param(DAY, 40 * DAY, MIN_SECONDS, id="ended-before-the-boot"),
        pytest.param(7 * DAY, 0, 3.5 * DAY, id="the-longest-that-is-minted"),
        pytest.param(3650 * DAY, 0, MAX_SECONDS, id="stored-for-years"),
        pytest.param(DAY, -30 * 365 * DAY, DAY / 2, id="clock-decades-behind"),
        pytest.param(DAY, 30 * 365 * DAY, MIN_SECONDS, id="clock-decades-ahead"),
        pytest.param(0, -HOUR, MIN_SECONDS, id="no-life"),
        pytest.param(-DAY, -2 * DAY, MIN_SECONDS, id="ends-before-it-begins"),
    ],
)
def test_it_is_time_when_half_of_what_is_left_is_over(
    life: int, passed: float, seconds: float
) -> None:
    assert wait(life, passed) == seconds


@pytest.mark.parametrize(
    ("left", "failures", "seconds"),
    [
        pytest.param(DAY, 1, FIRST_PAUSE_SECONDS, id="first"),
        pytest.param(DAY, 2, 60, id="second"),
        pytest.param(DAY, 5, 480, id="fifth"),
        pytest.param(DAY, 6, LAST_PAUSE_SECONDS, id="bounded"),
        pytest.param(DAY, 10_000, LAST_PAUSE_SECONDS, id="for-ever"),
        pytest.param(10 * MINUTE, 6, 5 * MINUTE, id="no-longer-than-half-of-the-rest"),
        pytest.param(1, 6, MIN_SECONDS, id="once-more-at-the-end"),
        pytest.param(0, 1, FIRST_PAUSE_SECONDS, id="ended"),
        pytest.param(-DAY, 6, LAST_PAUSE_SECONDS, id="ended-long-ago"),
    ],
)
def test_failures_are_made_good_soon_and_never_in_a_rush(
    left: int, failures: int, seconds: float
) -> None:
    assert wait(2 * DAY, 2 * DAY - left, failures) == seconds


@pytest.mark.parametrize(("life", "failures"), [(DAY, 0), (DAY, 3), (0, 1), (0, 9)])
def test_chance_makes_it_up_to_a_quarter_earlier_and_never_later(life: int, failures: int) -> None:
    latest = wait(life, 0, failures)
    assert wait(life, 0, failures, chance=0.5) == latest * 0.875
    assert latest * 0.75 < wait(life, 0, failures, chance=1 - 2**-32) < latest


@pytest.mark.parametrize("left", [0, 1, 20, 25])
@pytest.mark.parametrize("failures", [0, 1])
def test_chance_brings_two_questions_no_closer_than_the_least(left: int, failures: int) -> None:
    assert wait(DAY, DAY - left, failures, chance=1 - 2**-32) >= MIN_SECONDS


def test_stored_identity_that_nobody_replaces_costs_few_questions() -> None:
    life, passed, questions = 90 * DAY, 0.0, 0
    while passed < life:
        passed += wait(life, passed)
        questions += 1
    assert questions == 41
