"""Tasks that fail, and tasks that never end."""

from ccinit.kernel.event_loop import Event, sleep


class BoomError(Exception):
    pass


async def fail(after_seconds: float = 0) -> None:
    await sleep(after_seconds)
    raise BoomError


async def forever() -> None:
    await Event().wait()
