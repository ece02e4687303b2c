"""A value that one task will have, for all others that need it."""

from typing import Generic, TypeVar

from ccinit.kernel.event_loop import Event

T = TypeVar("T")


class Promise(Generic[T]):
    """Kept once; before that, whoever needs the value waits."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._is_kept = Event()

    @property
    def is_kept(self) -> bool:
        """Whether nobody has to wait any more."""
        return bool(self._values)

    def keep(self, value: T) -> None:
        """Give the value to all who wait, and who will.

        Raises:
            RuntimeError: it has been given (a bug).
        """
        if self._values:
            raise RuntimeError("a promise is kept once")
        self._values.append(value)
        self._is_kept.set()

    async def value(self) -> T:
        """Return it as soon as it is there."""
        await self._is_kept.wait()
        return self._values[0]
