"""httpcore without its asynchronous half, which names the same things: the guest waits itself."""

from typing import Any


class _Absent:
    """Named by httpcore and httpx; nobody makes one."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        """Refuse."""
        raise RuntimeError("no asynchronous connections in this image")


AsyncConnectionInterface = AsyncConnectionPool = AsyncHTTPConnection = _Absent
AsyncHTTP11Connection = AsyncHTTP2Connection = AsyncHTTPProxy = AsyncSOCKSProxy = _Absent
