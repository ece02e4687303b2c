"""`guest-owner top`: how often it asks."""

import argparse

import pytest

from ccinit.owner.connection import ConnectionLimits
from guest_owner.commands import top
from guest_owner.commands.top import add_parser


def interval_of(text: str) -> float:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    endpoint = ("--pod", "shop", "--connect", "127.0.0.1:1", "--client", "client.pem")
    interval: float = parser.parse_args(["top", "--interval", text, *endpoint]).interval
    return interval


@pytest.mark.parametrize("seconds", [0.1, 2.0, 300.0])
def test_guest_waits_for_the_next_reading(seconds: float) -> None:
    """A reading takes time, too, and the guest looks at its deadlines now and then."""
    assert interval_of(str(seconds)) == seconds
    assert 2 * seconds <= ConnectionLimits().idle_seconds


@pytest.mark.parametrize("text", ["0.05", "301", "3600", "nan", "inf", "-1", "x"])
def test_interval_that_no_guest_waits_for_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        interval_of(text)
    assert "expected 0.1 to 300 seconds" in capsys.readouterr().err


def test_screen_is_cleared_only_where_a_terminal_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for name, clears in (("xterm", True), ("dumb", False), ("", False)):
        monkeypatch.setenv("TERM", name)
        assert top._can_clear() is clears
    monkeypatch.delenv("TERM")
    assert not top._can_clear()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert not top._can_clear()
