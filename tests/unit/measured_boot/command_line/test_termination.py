"""What a command does when it is told to end, and what it did before stays as it was."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from measured_boot.command_line.termination import orderly_termination


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As in a terminal, even where the tests run below nohup."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_first_signal_ends_and_those_that_follow_do_not_disturb(number: signal.Signals) -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(SystemExit, match=str(128 + number)))
        stack.enter_context(orderly_termination())
        for each in (signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.raise_signal, each)
        signal.raise_signal(number)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_hangup_that_was_ignored_before_still_is() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with orderly_termination():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
