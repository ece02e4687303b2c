"""A process that has hardly any descriptors left, or no room for its files."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOST = 128


def count_descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process have `count` descriptors more, and no others, within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST, hard))
    try:
        while True:
            try:
                filling.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        for _ in range(count):
            os.close(filling.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filling:
            os.close(fd)


@contextmanager
def room_for(max_bytes: int) -> Iterator[None]:
    """Let a file grow to this size and no further, as a full disk would: what is more is EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
