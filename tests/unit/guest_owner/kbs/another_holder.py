"""Somebody else who changes, or backs up, the state of a KBS."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guest_owner.kbs.exclusion import changing


@contextmanager
def held_by_another(state: Path) -> Iterator[None]:
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with changing(state):
            taken.set()
            done.wait(110)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert taken.wait(60)
        yield
    finally:
        done.set()
        thread.join(60)
