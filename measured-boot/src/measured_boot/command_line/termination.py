"""Orderly termination: SIGTERM and SIGHUP become an exception, once.

For commands that have something to undo: a guest's sockets, a grant, a terminal's settings.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Never

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_STATUS_BASE: Final = 128  # as shells report a signal


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Raise `SystemExit` (143 or 129) where the program is, at the first such signal.

    Later ones are ignored, since they would only disturb the clean-up; so is SIGHUP if it was
    ignored before (`nohup`).
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def end(number: int, _frame: object) -> Never:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(_STATUS_BASE + number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
