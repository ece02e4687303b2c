"""The owner's terminal: raw while it is lent, news of its size, and as it was afterwards."""

import os
import pty
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from ccinit.errors import ConfigError
from guest_owner.plane.terminal import raw_terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    near, far = pty.openpty()
    with os.fdopen(far, "r+b", buffering=0) as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield far
    os.close(near)


def test_terminal_is_raw_within_the_block_only(terminal: int) -> None:
    before = termios.tcgetattr(terminal)
    with raw_terminal():
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
    assert termios.tcgetattr(terminal) == before


def test_terminal_is_given_back_after_an_error(terminal: int) -> None:
    before = termios.tcgetattr(terminal)
    with pytest.raises(KeyError), raw_terminal():
        raise KeyError
    assert termios.tcgetattr(terminal) == before


def test_terminal_that_is_gone_does_not_hide_how_the_block_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = signal.getsignal(signal.SIGWINCH)
    near, far = pty.openpty()

    def close_window() -> NoReturn:
        os.close(near)
        raise SystemExit(129)  # as on the SIGHUP that the kernel sends then

    with os.fdopen(far, "r+b", buffering=0) as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(SystemExit) as ended, raw_terminal():
            close_window()
    assert ended.value.code == 129
    assert signal.getsignal(signal.SIGWINCH) == handler


def test_first_size_is_that_of_the_window(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("COLUMNS", "120")
    with raw_terminal() as window:
        assert (window.rows, window.columns) == (50, 120)


def test_new_size_is_told_once(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGWINCH)
    with raw_terminal() as window:
        assert window.take() == ()
        monkeypatch.setenv("LINES", "50")
        monkeypatch.setenv("COLUMNS", "120")
        os.kill(os.getpid(), signal.SIGWINCH)
        assert window.take() == ((4, b"\x00\x32\x00\x78"),)
        assert window.take() == ()
    assert signal.getsignal(signal.SIGWINCH) == handler


def test_pipe_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(ConfigError) as caught, raw_terminal():
            pass
    assert caught.value.reason == "owner.terminal"
