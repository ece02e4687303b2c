"""The clock since boot, in both of its forms."""

from ccinit.kernel.clock import boottime, boottime_us


def test_clocks_are_one() -> None:
    before, between, after = boottime(), boottime_us(), boottime()
    assert int(before * 1e6) <= between <= after * 1e6 + 1
