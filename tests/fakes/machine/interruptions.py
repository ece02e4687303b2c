"""A flow that is stopped at each of its waits in turn: one run for each wait, and each way to stop.

What PID 1 does can end wherever it waits, for other reasons than its own. So a test does the same
thing again and again, each time stopped one wait later, and looks at what is left; the last run of
each way is not stopped any more, and is the case that nothing has disturbed.

    for stop in each_stop():
        failure = EventLoop().run(stop.attempt(flow()))
        stop.verify(failure)
        assert …  # nothing is left
"""

import errno
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from enum import Enum, auto
from itertools import count
from typing import cast
from unittest.mock import patch

from ccinit.errors import DeadlineError, KernelError
from ccinit.kernel.event_loop import EventLoop, _DeadlineScope, deadline
from ccinit.kernel.task import AnyTask, Event, Interrupted, Task, Wait, current_task

_HANG_SECONDS = 60.0


class Way(Enum):
    """How a flow is stopped."""

    CANCELLED = auto()
    """Whoever has started it ends it."""
    LATE = auto()
    """A deadline around it is over."""
    REFUSED = auto()
    """The kernel does not let it, or one of its tasks, wait for a descriptor or a time there."""


class Stop:
    """One attempt.

    Attributes:
        way: of stopping it.
        has_happened: the flow had a wait with this number, and was stopped there.
    """

    def __init__(self, way: Way, number: int) -> None:
        """Args: number: of the wait, counted over all tasks that the flow starts; from 1."""
        self.way, self.has_happened = way, False
        self._number, self._seen = number, 0

    def __repr__(self) -> str:
        return f"<{self.way.name} at wait {self._number}>"

    async def attempt(self, flow: Coroutine[object, None, object]) -> BaseException | None:
        """Do it as a task beside the others of this loop; return how it failed.

        Raises:
            AssertionError: it does not end, or has left a task behind.
        """
        loop = cast("EventLoop", current_task().loop)
        before = set(loop._tasks)
        scope = deadline(3600, "test.late")

        async def limited() -> None:
            async with deadline(_HANG_SECONDS, "test.hang"), scope:
                await flow

        task = loop.start(limited(), "flow")
        park = Task._park

        def count_waits(waiting: AnyTask, wait: Wait) -> None:
            if waiting not in before:
                wait = self._look_at(task, scope, wait)
            park(waiting, wait)

        with patch.object(Task, "_park", count_waits), suppress(Exception, Interrupted):
            await task.join()
        left = loop._tasks - before - {task}
        assert not left, f"{self} leaves {left}"
        assert "test.hang" not in str(task.failure), self
        return task.failure

    def _look_at(self, task: AnyTask, scope: _DeadlineScope, wait: Wait) -> Wait:
        """Count a wait and, if it is the one, stop the flow; return what is waited for instead."""
        if self.way is Way.REFUSED and isinstance(wait, Event):
            return wait  # the kernel has no part in it
        self._seen += 1
        if self._seen != self._number:
            return wait
        self.has_happened = True
        match self.way:
            case Way.CANCELLED:
                task.cancel()
            case Way.LATE:
                scope._expire()
            case Way.REFUSED:
                return _Refused()
        return wait

    def verify(self, failure: BaseException | None) -> None:
        """Accept only the failure that the stop is for whoever began the flow."""
        match self.way if self.has_happened else None:
            case None:
                if failure is not None:
                    raise failure
            case Way.CANCELLED:
                assert isinstance(failure, Interrupted), (self, failure)
            case Way.LATE:
                assert isinstance(failure, DeadlineError), (self, failure)
                assert failure.reason == "test.late", (self, failure)
            case Way.REFUSED:
                assert isinstance(failure, KernelError), (self, failure)
                assert failure.reason == "kernel.epoll_ctl", (self, failure)


class _Refused(Wait):
    """A wait for which the kernel has no room."""

    def arm(self, task: AnyTask) -> None:
        raise OSError(errno.ENOMEM, f"no room for a wait of {task}")


def each_stop(*ways: Way) -> Iterator[Stop]:
    """Yield one stop after the other, until a whole run has had no wait left to stop at."""
    for way in ways or tuple(Way):
        for number in count(1):
            stop = Stop(way, number)
            yield stop
            if not stop.has_happened:
                break
