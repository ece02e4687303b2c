"""How a command begins: even while its libraries load, an interrupt ends it with a single line.

During the imports nothing has to be unwound, and an exception would not always get through (Python
prints and drops one that hits a callback of its import system). So the process exits at once.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130  # as shells report SIGINT


def start(program: str, load: Callable[[], Callable[[], int]]) -> int:
    """Return the exit status of a command.

    Args:
        program: its name, with which the line begins.
        load: imports the command and returns its main function.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return load()()  # SIGINT is ignored (a background job) or handled: leave it so

    def leave(_signal: int, _frame: FrameType | None) -> None:
        _say(program)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    main = load()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return main()
    except KeyboardInterrupt:  # outside the command itself, which would say so in its own way
        signal.signal(signal.SIGINT, leave)
        _say(program)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, leave)  # no traceback while the interpreter ends, either


def _say(program: str) -> None:
    with contextlib.suppress(OSError):  # whoever started us may have closed it
        os.write(2, f"{program}: interrupted\n".encode())
