"""A value that one task provides, and for which others wait."""

from typing import Generic, TypeVar

from ccinit.kernel.event_loop import Event

T = TypeVar("T")


class Promise(Generic[T]):
    """Kept once; until then, tasks that need the value wait."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._is_kept = Event()

    @property
    def is_kept(self) -> bool:
        """Whether the value is there."""
        return bool(self._values)

    def keep(self, value: T) -> None:
        """Provide the value to all present and future waiters.

        Raises:
            RuntimeError: it has been given (a bug).
        """
        if self._values:
            raise RuntimeError("a promise is kept once")
        self._values.append(value)
        self._is_kept.set()

    async def value(self) -> T:
        """Return the value as soon as there is one."""
        await self._is_kept.wait()
        return self._values[0]
