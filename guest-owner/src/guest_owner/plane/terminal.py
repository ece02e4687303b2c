"""The owner's own terminal while a program in a guest uses it."""

import contextlib
import shutil
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ccinit.errors import ConfigError
from ccinit.formats.planes.owner_rpc import Stream


@dataclass(slots=True)
class WindowSize:
    """Size of the terminal, and whether the guest has yet to be told."""

    rows: int
    columns: int
    has_changed: bool = False

    def note(self, *_: object) -> None:
        """Look again; SIGWINCH calls this."""
        size = shutil.get_terminal_size()
        self.rows, self.columns, self.has_changed = size.lines, size.columns, True

    def take(self) -> tuple[tuple[int, bytes], ...]:
        """Return what has to be sent, as (fd, bytes)."""
        if not self.has_changed:
            return ()
        self.has_changed = False
        return ((Stream.RESIZE, struct.pack(">HH", self.rows, self.columns)),)


def require_terminal() -> None:
    """Refuse to run a program on a terminal where there is none.

    Raises:
        ConfigError: `owner.terminal`.
    """
    if not sys.stdin.isatty():
        raise ConfigError("owner.terminal", "standard input is not a terminal; leave out -t")


@contextmanager
def raw_terminal() -> Iterator[WindowSize]:
    """Pass keys on unprocessed, and watch the window's size, until the block ends.

    Raises:
        ConfigError: as `require_terminal`.
    """
    require_terminal()
    size = shutil.get_terminal_size()
    window = WindowSize(size.lines, size.columns)
    descriptor = sys.stdin.fileno()
    settings = termios.tcgetattr(descriptor)
    handler = signal.signal(signal.SIGWINCH, window.note)
    try:
        tty.setraw(descriptor)
        yield window
    finally:
        with contextlib.suppress(termios.error):  # its window was closed, which SIGHUP reports
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
        signal.signal(signal.SIGWINCH, handler)
