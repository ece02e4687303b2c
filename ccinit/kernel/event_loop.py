"""A small coroutine runner over epoll: task groups and deadlines. No threads, no policy.

Theory of operation
    A *task* is a coroutine that the loop resumes. Whenever it awaits something of this module, it
    hands the loop a *wait*: an object that knows how to watch for its wake-up (`arm`) and how to
    stop watching (`disarm`). A task is in exactly one of four states:

        ready ──step──▶ running ──yields a wait──▶ parked ──wake or interrupt──▶ ready
                           └──returns or raises──▶ done

    A wake-up carries no value, so nothing is lost when an interrupt overtakes one: a woken task
    looks again (reads the fd, tests the condition).

    *Interrupts* are how a task is stopped from outside: `Interrupted` is thrown at its present or
    next wait, once for each cause (edge, not level), so a `finally` block may await again. A task
    that has not begun still runs to its first wait, by which time it owns what it was given.
    Entering a deadline or a group is not a wait. The exception names its cause, and only that
    swallows it: a deadline turns its own into `DeadlineError`, `at_most` its own into the end of
    its block, a group its own into the failure that caused it, a task its own cancellation into its
    end. Nested deadlines need nothing more.

    *No exception is lost.* A task either belongs to a `TaskGroup`, which interrupts the siblings
    and raises the first failure when all have ended, or was started on the loop; if such a task
    fails and nobody is waiting in `join`, the main task is interrupted and `run` raises that.

Time is CLOCK_BOOTTIME in seconds; it needs no wall clock and is not the host's to set back.
One task may wait for one direction of one fd; an fd must not be closed while a task waits for it.
`ccinit.kernel.task` holds the task and the waits; the guest imports all names from here.
"""

import heapq
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType

from ccinit.annotations import Self, TypeVar, cast
from ccinit.errors import DeadlineError
from ccinit.kernel.clock import boottime
from ccinit.kernel.task import (
    AnyTask,
    Event,
    Interrupted,
    Lock,
    Owner,
    Task,
    Timer,
    current_task,
    readable,
    sleep,
    writable,
)

__all__ = [
    "AnyTask",
    "Event",
    "EventLoop",
    "Interrupted",
    "Lock",
    "Task",
    "TaskGroup",
    "at_most",
    "deadline",
    "readable",
    "sleep",
    "writable",
]

R = TypeVar("R")
_FEW_TIMERS = 256
_MAX_WAIT_SECONDS = 86400.0
"""epoll_wait(2) counts milliseconds in an int: 24 days. A timer may be further off."""


class EventLoop:
    """The runner. One per process; `run` once."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ready: deque[AnyTask] = deque()
        self._timers: list[Timer] = []
        self._max_timers = _FEW_TIMERS
        self._tasks: set[AnyTask] = set()
        self._main: AnyTask | None = None
        self._failures: list[BaseException] = []

    @property
    def failure(self) -> BaseException | None:
        """Why the main task was interrupted: the first failure of a task that nobody joined."""
        return self._failures[0] if self._failures else None

    def run(self, main: Coroutine[object, None, R]) -> R:
        """Run `main` to its end, then cancel every task it left and wait for those too.

        Raises:
            BaseException: what `main` raised, or else the first failure of a task nobody joined;
                later failures are added to it as notes.
        """
        self._main = task = self.start(main, "main")
        try:
            while self._tasks:
                self._turn()
        finally:
            self._selector.close()
        if self._failures:
            raise _first_of(self._failures)
        return cast("R", task.result)

    def start(self, coroutine: Coroutine[object, None, R], name: str) -> Task[R]:
        """Start a task; its failure ends `run` unless a task is waiting in `join`.

        Once the main task has ended it ends at its first wait.
        """
        task = self.start_for(self, coroutine, name)
        if self._main is not None and self._main.is_done():
            task.cancel()
        return task

    def start_for(self, owner: Owner, coroutine: Coroutine[object, None, R], name: str) -> Task[R]:
        """Start a task whose end is told to `owner`."""
        task = Task(self, coroutine, name, owner)
        self._tasks.add(task)
        self._ready.append(task)
        return task

    def task_ended(self, task: AnyTask) -> None:
        """Record the end of a task that `start` made."""
        failed = task.failure is not None and not task.was_cancelled()
        if task is self._main:
            if failed and not (
                isinstance(task.failure, Interrupted) and task.failure.cause is self
            ):
                self._failures.insert(0, cast("BaseException", task.failure))
            for other in self._tasks:
                if other is not task:
                    other.cancel()
        elif failed and not task.is_joined():
            self._failures.append(cast("BaseException", task.failure))
            if self._main is not None:
                self._main.interrupt(self)

    def make_ready(self, task: AnyTask) -> None:
        """Queue a task for its next step."""
        self._ready.append(task)

    def call_after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` from the loop after `seconds`."""
        if len(self._timers) >= self._max_timers:
            self._drop_cancelled_timers()
        timer = Timer(boottime() + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    def _drop_cancelled_timers(self) -> None:
        """Keep the heap at most twice the pending timers: most deadlines are cancelled early."""
        self._timers = [timer for timer in self._timers if timer.call is not None]
        heapq.heapify(self._timers)
        self._max_timers = max(_FEW_TIMERS, 2 * len(self._timers))

    def watch(self, fd: int, events: int, task: AnyTask) -> None:
        """Wake `task` when `fd` has one of `events`."""
        key = self._selector.get_map().get(fd)
        if key is None:
            self._selector.register(fd, events, {events: task})
            return
        if key.events & events:
            raise RuntimeError(f"two tasks wait for fd {fd}")
        self._selector.modify(fd, key.events | events, {**key.data, events: task})

    def unwatch(self, fd: int, events: int) -> None:
        """Stop watching `fd` for `events`."""
        key = self._selector.get_key(fd)
        if key.events == events:
            self._selector.unregister(fd)
        else:
            rest = {bit: task for bit, task in key.data.items() if bit != events}
            self._selector.modify(fd, key.events & ~events, rest)

    def _turn(self) -> None:
        for key, events in self._selector.select(self._poll_seconds()):
            for bit, task in tuple(key.data.items()):
                if events & bit:
                    task.wake()
        now = boottime()
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            if timer.call is not None:
                timer.call()
        # Only tasks that are ready now: one that keeps making itself ready must not starve the
        # selector.
        for _ in range(len(self._ready)):
            task = self._ready.popleft()
            task.step()
            if task.is_done():
                self._tasks.discard(task)
            del task  # as in `Task.step`: from Python 3.12 on, frames below this one lead here

    def _poll_seconds(self) -> float | None:
        """Return how long the selector may sleep."""
        if self._ready:
            return 0.0
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if self._timers:
            return min(max(0.0, self._timers[0].when - boottime()), _MAX_WAIT_SECONDS)
        if not self._selector.get_map():
            raise RuntimeError("every task waits, and nothing can wake one")
        return None


def _first_of(failures: list[BaseException]) -> BaseException:
    first, *later = failures
    for error in later:
        if error is not first and not isinstance(error, Interrupted):
            first.add_note(f"later: {type(error).__name__}: {error}")
    return first


class TaskGroup:
    """Child tasks that end with the `async with` block; the first failure ends them all."""

    def __init__(self) -> None:
        self._body: AnyTask | None = None
        self._tasks: set[AnyTask] = set()
        self._failures: list[BaseException] = []
        self._empty = Event()

    async def __aenter__(self) -> Self:
        self._body = current_task()
        return self

    def start(self, coroutine: Coroutine[object, None, R], name: str) -> Task[R]:
        """Start a child task; if the group is already ending, the task ends at its first wait."""
        if self._body is None:
            coroutine.close()
            raise RuntimeError("the group is not entered")
        task = self._body.loop.start_for(self, coroutine, name)
        self._tasks.add(task)
        if self._failures:
            task.cancel()
        return task

    def cancel(self) -> None:
        """Cancel every child task."""
        for task in self._tasks:
            task.cancel()

    def task_ended(self, task: AnyTask) -> None:
        """Record a child's end; the first failure stops siblings and body."""
        self._tasks.discard(task)
        if task.failure is not None and not task.was_cancelled():
            self._failures.append(task.failure)
            self.cancel()
            if self._body is not None:
                self._body.interrupt(self)
        if not self._tasks:
            self._empty.set()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._note(error)
            self.cancel()
        while self._tasks:
            self._empty.clear()
            try:
                await self._empty.wait()
            except Interrupted as interrupt:
                self._note(interrupt)
                self.cancel()
        if self._body is not None:
            self._body.withdraw(self)
        self._body = None
        first = _first_of(self._failures) if self._failures else None
        self._failures = []
        try:
            if first is not None and first is not error:
                raise first
        finally:
            del first  # as in `Task.step`: its traceback refers to this frame

    def _note(self, error: BaseException) -> None:
        """Record the errors that end the group, in order; our own interrupt only passes one on."""
        if not (isinstance(error, Interrupted) and error.cause is self):
            self._failures.append(error)


class _TimeScope:
    """Interrupts its block after a time, and knows whether it was that which ended the block."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: AnyTask | None = None
        self._timer: Timer | None = None
        self._fired = False

    def _begin(self) -> None:
        self._task = current_task()
        self._timer = self._task.loop.call_after(self._seconds, self._expire)

    def _expire(self) -> None:
        self._fired = True
        if self._task is not None:
            self._task.interrupt(self)

    def _end(self, error: BaseException | None) -> bool:
        """Return whether time was up; `error` is what the block raised."""
        task, timer = self._task, self._timer
        self._task = self._timer = None  # an error raised on leaving refers to this scope
        if timer is not None:
            timer.cancel()
        if not self._fired or task is None or task.withdraw(self):
            return False
        return error is None or (isinstance(error, Interrupted) and error.cause is self)


class _DeadlineScope(_TimeScope):
    def __init__(self, seconds: float, reason: str, what: str) -> None:
        super().__init__(seconds)
        self._reason, self._what = reason, what

    async def __aenter__(self) -> None:
        self._begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._end(error):
            late = f"not done within {self._seconds:g} s"
            raise DeadlineError(
                self._reason, f"{self._what}: {late}" if self._what else late
            ) from None


def deadline(seconds: float, reason: str, what: str = "") -> _DeadlineScope:
    """Give the `async with` block `seconds`, then interrupt it.

    Raises:
        DeadlineError: on leaving the block, with `reason`, and `what` in its text, if the time was
            up.
    """
    return _DeadlineScope(seconds, reason, what)


class _AtMostScope(_TimeScope):
    is_over = False

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.is_over = self._end(error)
        return self.is_over


def at_most(seconds: float) -> _AtMostScope:
    """Leave the `async with` block after `seconds`, which is no error: then `is_over` is set."""
    return _AtMostScope(seconds)
