"""How a command begins: an interrupt ends it in one line while its libraries load, too.

As long as they do, nothing has to be unwound, and an exception would not always get through (Python
prints and forgets one that meets a callback of its import system): so the process leaves at once.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130  # as shells tell a SIGINT


def start(program: str, load: Callable[[], Callable[[], int]]) -> int:
    """Return the exit status of a command.

    Args:
        program: its name, which the line begins with.
        load: imports the command and returns its main function.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return load()()  # whoever started us wants no interrupts, as `nohup` does, or their own

    def leave(_signal: int, _frame: FrameType | None) -> None:
        _say(program)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    main = load()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return main()
    except KeyboardInterrupt:  # before the command itself, which has words for it, was entered
        signal.signal(signal.SIGINT, leave)
        _say(program)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, leave)  # nor is there a traceback when the interpreter ends


def _say(program: str) -> None:
    with contextlib.suppress(OSError):  # whoever started us may have closed it
        os.write(2, f"{program}: interrupted\n".encode())
