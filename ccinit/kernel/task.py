"""A task and what it can wait for: an fd, a time, an event. The runner is `event_loop`.

See `ccinit.kernel.event_loop` for the theory of operation.
"""

import selectors
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator

from ccinit.annotations import Generic, Protocol, TypeVar, cast
from ccinit.kernel.libc import kernel_error

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Timer:
    """A call planned for a time; a cancelled one stays in the heap for a while."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None] | None) -> None:
        self.when, self.call = when, call

    def cancel(self) -> None:
        """Forget the call."""
        self.call = None

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when


class Runner(Protocol):
    """What a wait may ask of the loop; see `EventLoop`."""

    def start_for(
        self, owner: "Owner", coroutine: Coroutine[object, None, R], name: str
    ) -> "Task[R]":
        """Start a task whose end is told to `owner`."""

    def make_ready(self, task: "AnyTask") -> None:
        """Queue a task for its next step."""

    def call_after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` from the loop after `seconds`."""

    def watch(self, fd: int, events: int, task: "AnyTask") -> None:
        """Wake `task` when `fd` has one of `events`."""

    def unwatch(self, fd: int, events: int) -> None:
        """Stop watching `fd` for `events`."""


class Owner(Protocol):
    """Who answers for a task's failure."""

    def task_ended(self, task: "AnyTask") -> None:
        """Take note that `task` is done."""


class Interrupted(BaseException):
    """Thrown into a waiting task by `cause`, which alone may swallow it.

    Not an `Exception`, so that no handler of failures catches it by accident.
    """

    def __init__(self, cause: object) -> None:
        super().__init__()
        self.cause = cause


class Wait:
    """What a parked task waits for."""

    def arm(self, task: "AnyTask") -> None:
        """Begin to watch; `task.wake` ends it."""
        raise NotImplementedError

    def disarm(self, task: "AnyTask") -> None:
        """Stop watching; called once, before the task is made ready."""

    def __await__(self) -> Generator["Wait", None, None]:
        yield self


class _WaitTurn(Wait):
    """Wait for the next turn of the loop."""

    def arm(self, task: "AnyTask") -> None:
        """See `Wait`."""
        task.wake()


class _WaitFd(Wait):
    def __init__(self, fd: int, events: int) -> None:
        self._fd, self._events = fd, events

    def arm(self, task: "AnyTask") -> None:
        task.loop.watch(self._fd, self._events, task)

    def disarm(self, task: "AnyTask") -> None:
        task.loop.unwatch(self._fd, self._events)


class _WaitTime(Wait):
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: Timer | None = None

    def arm(self, task: "AnyTask") -> None:
        self._timer = task.loop.call_after(self._seconds, task.wake)

    def disarm(self, task: "AnyTask") -> None:  # noqa: ARG002
        if self._timer is not None:
            self._timer.cancel()


class Event(Wait):
    """A flag that tasks can wait for."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[AnyTask] = []

    def is_set(self) -> bool:
        """Return whether `set` was called since the last `clear`."""
        return self._is_set

    def set(self) -> None:
        """Raise the flag and wake everyone who waits."""
        self._is_set = True
        for task in tuple(self._waiters):
            task.wake()

    def clear(self) -> None:
        """Lower the flag."""
        self._is_set = False

    async def wait(self) -> None:
        """Return when the flag is up, at once if it is."""
        if not self._is_set:
            await self

    def has_waiters(self) -> bool:
        """Return whether a task is in `wait`."""
        return bool(self._waiters)

    def arm(self, task: "AnyTask") -> None:
        """See `Wait`."""
        self._waiters.append(task)

    def disarm(self, task: "AnyTask") -> None:
        """See `Wait`."""
        self._waiters.remove(task)


class Lock:
    """One task at a time: `async with` waits until nobody else is inside."""

    def __init__(self) -> None:
        self._free = Event()
        self._free.set()

    async def __aenter__(self) -> None:
        while not self._free.is_set():  # of those that a leave wakes, the first one enters
            await self._free.wait()
        self._free.clear()

    async def __aexit__(self, *_: object) -> None:
        self._free.set()


def readable(fd: int) -> Awaitable[object]:
    """Wait until reading `fd` would not block; end of file and errors count as readable."""
    return _WaitFd(fd, selectors.EVENT_READ)


def writable(fd: int) -> Awaitable[object]:
    """Wait until writing `fd` would not block."""
    return _WaitFd(fd, selectors.EVENT_WRITE)


def sleep(seconds: float) -> Awaitable[object]:
    """Wait for `seconds`; zero lets every other ready task run first."""
    return _WaitTime(seconds) if seconds > 0 else _WaitTurn()


class Task(Generic[R_co]):
    """One coroutine under the loop. Made by `EventLoop.start` and `TaskGroup.start`."""

    def __init__(
        self, loop: Runner, coroutine: Coroutine[object, None, R_co], name: str, owner: Owner
    ) -> None:
        self.loop = loop
        self.name = name
        self.failure: BaseException | None = None
        self._coroutine = cast("Coroutine[Wait, None, R_co]", coroutine)
        self._owner = owner
        self._wait: Wait | None = None
        self._causes: deque[object] = deque()
        self._cancellation = object()  # a cause; the task itself would be part of its own failure
        self._refusal: Exception | None = None
        self._has_begun = False
        self._ended = Event()
        self.result: R_co | None = None

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def is_done(self) -> bool:
        """Return whether the coroutine returned, raised or was cancelled."""
        return self._ended.is_set()

    def is_joined(self) -> bool:
        """Return whether another task is in `join`."""
        return self._ended.has_waiters()

    def cancel(self) -> None:
        """Interrupt the task; it ends once its `finally` blocks are through."""
        self.interrupt(self._cancellation)

    async def join(self) -> R_co:
        """Wait for the end; return the result or raise the failure."""
        await self._ended.wait()
        if self.failure is None:
            return cast("R_co", self.result)
        try:
            raise self.failure
        finally:
            del self  # as in `step`

    async def stop(self) -> None:
        """Cancel the task and wait for its end; raise any failure but the cancellation."""
        self.cancel()
        await self._ended.wait()
        if self.failure is None or self.was_cancelled():
            return
        try:
            raise self.failure
        finally:
            del self  # as in `step`

    def was_cancelled(self) -> bool:
        """Return whether `cancel` ended it."""
        return isinstance(self.failure, Interrupted) and self.failure.cause is self._cancellation

    def interrupt(self, cause: object) -> None:
        """Throw `Interrupted(cause)` at the present or next wait."""
        if not self.is_done() and cause not in self._causes:
            self._causes.append(cause)
            self.wake()

    def withdraw(self, cause: object) -> bool:
        """Take back an interrupt; return False if it was thrown already, or never sent."""
        if cause not in self._causes:
            return False
        self._causes.remove(cause)
        return True

    def wake(self) -> None:
        """Make a parked task ready."""
        if self._wait is not None:
            wait, self._wait = self._wait, None
            wait.disarm(self)
            self.loop.make_ready(self)

    def step(self) -> None:
        """Resume the coroutine until its next wait. Only the loop calls this."""
        global _running  # noqa: PLW0603  # see `current_task`
        _running = self
        has_begun, self._has_begun = self._has_begun, True
        try:
            if self._refusal is not None:
                error, self._refusal = self._refusal, None
                wait = self._coroutine.throw(error)
            elif self._causes and has_begun:
                wait = self._coroutine.throw(Interrupted(self._causes.popleft()))
            else:
                wait = self._coroutine.send(None)
        except StopIteration as stop:
            self.result = stop.value
            self._end(None)
        except (Exception, Interrupted) as error:  # noqa: BLE001  # the task boundary: kept, never lost
            self._end(error)
        else:
            self._park(wait)
        finally:
            _running = None
            # The failure's traceback holds this frame. With the task in it, whatever the coroutine
            # held would stay until the garbage collector comes: in a quiet guest, for hours.
            del self

    def _park(self, wait: Wait) -> None:
        self._wait = wait
        try:
            wait.arm(self)
        except Exception as error:  # noqa: BLE001  # this task's failure, and not the loop's end
            self._wait = None
            self._refusal = error
            if isinstance(error, OSError):
                self._refusal = kernel_error(error, "epoll_ctl", self.name)
            self.loop.make_ready(self)
            return
        if self._causes:
            self.wake()

    def _end(self, failure: BaseException | None) -> None:
        self.failure = failure
        self._owner.task_ended(self)
        self._ended.set()


AnyTask = Task[object]

_running: AnyTask | None = None  # there is one loop, and it takes one step at a time


def current_task() -> AnyTask:
    """Return the task of the calling coroutine.

    Raises:
        RuntimeError: it does not run under the loop.
    """
    if _running is None:
        raise RuntimeError("no task is running")
    return _running
