"""Starts threads; if the system has none left, that is an OSError, which may pass."""

import errno
import threading


def start_thread(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        OSError: EAGAIN, none can be had now.
    """
    try:
        thread.start()
    except RuntimeError as error:  # Python's error for it
        raise OSError(errno.EAGAIN, "no thread can be had") from error
