"""A file descriptor with one owner at a time, which closes it or passes it on."""

import os
from collections.abc import Iterable


class Descriptor:
    """Closed once: by `close`, at the end of its block, or by the caller of `take`."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    def take(self) -> int:
        """Return its number; from here on it is the caller's to close.

        Raises:
            RuntimeError: it has been taken or closed (a bug).
        """
        if self._number is None:
            raise RuntimeError("a descriptor that somebody else has")
        number, self._number = self._number, None
        return number

    def close(self) -> None:
        """Close it unless that was done or it has been taken."""
        if self._number is not None:
            os.close(self.take())

    def __enter__(self) -> int:
        """Return its number; it is closed with the block.

        Raises:
            RuntimeError: as `take`.
        """
        if self._number is None:
            raise RuntimeError("a descriptor that somebody else has")
        return self._number

    def __exit__(self, *_: object) -> None:
        self.close()


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that are the caller's."""
    for fd in fds:
        os.close(fd)
