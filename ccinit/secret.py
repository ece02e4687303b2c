"""Bytes that must not be printed, pickled or kept.

CPython copies `bytes` freely, so wiping is best effort: a `Secret` keeps its one copy in a
`bytearray` that is overwritten when the secret ends, and never gives the content to `repr`, `str`,
`pickle` or an exception. Code that needs the bytes calls `reveal()` right where it hands them to
the kernel or a cipher, and does not store the result.
"""

from ccinit.annotations import Never, Self


class Secret:
    """One secret value with a bounded lifetime; a context manager that wipes on exit."""

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._buffer = bytearray(value)

    def reveal(self) -> bytes:
        """Return the content; empty once wiped."""
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the content and forget it."""
        for index in range(len(self._buffer)):
            self._buffer[index] = 0
        self._buffer.clear()

    def __len__(self) -> int:
        return len(self._buffer)

    __hash__ = None  # type: ignore[assignment]  # a hash would be a fingerprint of the content

    def __repr__(self) -> str:
        return f"Secret({len(self._buffer)} bytes)"

    def __reduce__(self) -> Never:
        raise TypeError("a secret is not serialised")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()
