"""Waiting for a guest that waits for its KBS: for how long, and with a message to the user."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from guest_owner.telling import tell

ASK_SECONDS: Final = 900
"""One and a half times as long as a guest keeps asking a KBS that is down."""
ANNOUNCE_SECONDS = 5.0


@contextmanager
def announcing_wait(then: str) -> Iterator[None]:
    """Say on standard error what the guest is doing, and `then`, if the block takes seconds."""
    text = (
        "waiting: the guest attests anew and asks its KBS, again and again while that does not"
        f" answer; {then}"
    )
    timer = threading.Timer(ANNOUNCE_SECONDS, tell, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
