"""A generator without its seed is waited for, and never read."""

import os

import pytest

from ccinit.errors import DeadlineError, KernelError
from ccinit.kernel import entropy
from ccinit.kernel.event_loop import EventLoop, deadline


@pytest.fixture
def unseeded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """getrandom(2) before the seed, for as many calls as the list says."""
    calls = [3]
    real = os.getrandom

    def getrandom(count: int, flags: int) -> bytes:
        if calls[0] > 0:
            calls[0] -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(count, flags)

    monkeypatch.setattr(os, "getrandom", getrandom)
    monkeypatch.setattr(entropy, "POLL_SECONDS", 0.01)
    return calls


async def wait(seconds: float) -> None:
    async with deadline(seconds, "random.late"):
        await entropy.wait_for_entropy()


def test_r15_boot_waits_for_the_seed(unseeded: list[int]) -> None:
    EventLoop().run(wait(5.0))
    assert unseeded == [0]
    assert len(entropy.random_bytes(32)) == 32


def test_r15_seed_that_never_comes_ends_at_the_deadline(unseeded: list[int]) -> None:
    unseeded[0] = 1 << 30
    with pytest.raises(DeadlineError) as ended:
        EventLoop().run(wait(0.1))
    assert ended.value.reason == "random.late"


def test_r15_no_byte_is_read_before_the_seed(unseeded: list[int]) -> None:
    unseeded[0] = 1
    with pytest.raises(KernelError) as refused:
        entropy.random_bytes(32)
    assert refused.value.reason == "kernel.getrandom"
    assert len(entropy.random_bytes(32)) == 32


def test_entropy_is_ready_and_random() -> None:
    EventLoop().run(entropy.wait_for_entropy())
    assert len(entropy.random_bytes(32)) == 32
    assert entropy.random_bytes(32) != entropy.random_bytes(32)


def test_too_many_random_bytes_at_once_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        entropy.random_bytes(257)
