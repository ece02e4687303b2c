"""A command from its first moment on: who is told of an interrupt, and what is left afterwards."""

import signal
from collections.abc import Iterator

import pytest

from measured_boot.command_line.start import start


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_command_has_pythons_own_interrupt_and_its_status_is_returned() -> None:
    seen: list[object] = []

    def main() -> int:
        seen.append(signal.getsignal(signal.SIGINT))
        return 7

    def load() -> object:
        seen.append(signal.getsignal(signal.SIGINT))
        return main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert start("tool", load) == 7  # type: ignore[arg-type]
    while_loading, while_running = seen
    assert while_running is signal.default_int_handler
    assert while_loading is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is while_loading


def test_interrupt_of_what_has_no_words_for_it_is_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def main() -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert start("tool", lambda: main) == 130
    assert capfd.readouterr() == ("", "tool: interrupted\n")


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, lambda *_: None])
def test_who_wants_no_interrupts_gets_none(theirs: signal.Handlers) -> None:
    def main() -> int:
        signal.raise_signal(signal.SIGINT)
        return 3

    signal.signal(signal.SIGINT, theirs)
    assert start("tool", lambda: main) == 3
    assert signal.getsignal(signal.SIGINT) is theirs
