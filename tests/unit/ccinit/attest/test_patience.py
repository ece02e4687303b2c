"""Back-off without waiting."""

import pytest

from ccinit.attest.patience import (
    AttestLimits,
    Patience,
    Waiting,
    random_fraction,
)
from ccinit.errors import DeadlineError, PeerError


class Time:
    """A clock that only sleeping moves."""

    def __init__(self, fraction: float = 0.5) -> None:
        self.now = 1000.0
        self.naps: list[float] = []
        self._fraction = fraction

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    @property
    def waiting(self) -> Waiting:
        return Waiting(now=lambda: self.now, sleep=self.sleep, fraction=lambda: self._fraction)


ERROR = PeerError("net.unreachable", "no route")


@pytest.mark.parametrize(("fraction", "factor"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_delays_double_to_a_cap_and_are_jittered(fraction: float, factor: float) -> None:
    time = Time(fraction)
    limits = AttestLimits(total_seconds=100, first_delay_seconds=1, max_delay_seconds=4)
    patience = Patience(limits, time.waiting)
    for _ in range(5):
        patience.wait_after(ERROR, None)
    assert time.naps == [delay * factor for delay in (1, 2, 4, 4, 4)]


def test_r20_total_deadline_ends_the_attempts_with_the_last_reason() -> None:
    time = Time()
    patience = Patience(AttestLimits(total_seconds=10), time.waiting)

    def wait_forever() -> None:
        for _ in range(100):
            patience.wait_after(ERROR, None)

    with pytest.raises(DeadlineError) as ended:
        wait_forever()
    assert ended.value.reason == "kbs.unreachable"
    assert ended.value.detail.endswith("net.unreachable: no route")
    assert ended.value.__cause__ is ERROR
    assert 5 < sum(time.naps) < 10


def test_retry_after_is_obeyed_up_to_its_cap() -> None:
    time = Time()
    limits = AttestLimits(total_seconds=1000, max_retry_after_seconds=60)
    patience = Patience(limits, time.waiting)
    patience.wait_after(ERROR, 7.0)
    patience.wait_after(ERROR, 1e9)
    patience.wait_after(ERROR, 0.0)
    assert time.naps[:2] == [7.0, 60.0]
    assert time.naps[2] > 0


def test_request_gets_what_is_left() -> None:
    time = Time()
    patience = Patience(AttestLimits(total_seconds=100, request_seconds=60), time.waiting)
    assert patience.request_seconds == 60
    time.now += 70
    assert patience.request_seconds == pytest.approx(30)
    time.now += 70
    assert patience.request_seconds == 0


def test_real_fractions_are_between_zero_and_one() -> None:
    assert all(0 <= Waiting().fraction() < 1 for _ in range(100))
    assert Waiting().now() > 0


def test_random_fraction_is_one() -> None:
    drawn = [random_fraction() for _ in range(64)]
    assert all(0 <= one < 1 for one in drawn)
    assert len(set(drawn)) > 32
