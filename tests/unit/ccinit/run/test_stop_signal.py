"""Names and numbers of signals, and what is none."""

import signal

import pytest

from ccinit.errors import FormatError
from ccinit.run.stop_signal import parse_stop_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", signal.SIGTERM),
        ("SIGTERM", signal.SIGTERM),
        ("SIGQUIT", signal.SIGQUIT),
        ("QUIT", signal.SIGQUIT),
        ("sigint", signal.SIGINT),
        ("Winch", signal.SIGWINCH),
        ("sigrtmin+3", signal.SIGRTMIN + 3),
        ("3", 3),
        ("SIGKILL", signal.SIGKILL),
        ("SIGRTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMIN+30", signal.SIGRTMAX),
        ("SIGRTMAX", signal.SIGRTMAX),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("sigrtmax-30", signal.SIGRTMIN),
        ("64", 64),
    ],
)
def test_signal_of_any_usual_spelling_is_read(text: str, number: int) -> None:
    assert parse_stop_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("0", "65", "-1", "999", "3 ", "\u0663"),
        *("SIGNOTHING", "sigterm ", "s\u0131gint", "SIG", "SIG_DFL", "SIGTERM+1"),
        *("SIGRTMIN+", "SIGRTMIN+31", "SIGRTMIN+99", "SIGRTMIN+\u0663", "SIGRTMIN-1"),
        *("SIGRTMAX-", "SIGRTMAX-31", "SIGRTMAX+1", "SIGTERM-1"),
        *("9" * 5000, "SIGRTMIN+" + "9" * 5000),  # `int` would not read these
    ],
)
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_stop_signal(text)
    assert refused.value.reason == "run.stop_signal"
