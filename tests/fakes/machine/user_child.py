"""The child `user`, played in this process."""

from collections.abc import Coroutine, Mapping
from types import SimpleNamespace
from typing import TypeVar

from ccinit.run.users import Identity, UserRequest, user_job

R = TypeVar("R")


async def play_user_child(request: UserRequest, fds: Mapping[str, int]) -> Identity:
    """Do the child's job."""
    return user_job(request, SimpleNamespace(fds=fds))


def finish(coroutine: Coroutine[object, None, R]) -> R:
    """Return the result of what waits for nothing, without an event loop and its calls."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    raise AssertionError("it waits")
