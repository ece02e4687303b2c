"""Asks a guest for its pod's exit code in time: it answers while it ends, and never before.

The end lasts two seconds and what the pod's teardown takes, so somebody has to be there when it
begins: a thread that follows the guest's states, beside whoever waits for QEMU. It keeps one of the
guest's few connections.
"""

import threading
from collections.abc import Callable
from typing import Final

from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import MAX_WAIT_MS, Phase
from host_runtime.plane.rpc_client import CallRefusedError, GuestClient
from host_runtime.programs.thread_start import start_thread

_PACE_SECONDS: Final = 0.1  # a guest whose state changes all the time takes no more of ours
_RETRY_SECONDS: Final = 0.5
_LAST_SECONDS: Final = 5.0


class ExitWatch:
    """Follows one guest to its end.

    Attributes:
        code: the pod's exit code, once the guest has told it. A guest that refuses (its manifest
            says so, or the pod did not end by itself) and one that is gone leave None.
    """

    def __init__(self, connect: Callable[[], GuestClient]) -> None:
        self.code: int | None = None
        self._connect = connect
        self._is_over = threading.Event()
        # Not waited for at the program's end: it may be waiting for a guest that says nothing.
        self._thread = threading.Thread(target=self._follow, name="exit watch", daemon=True)

    def start(self) -> None:
        """Begin; the guest may be anywhere in its life, or not listen yet.

        Raises:
            OSError: as `start_thread`.
        """
        start_thread(self._thread)

    def finish(self) -> int | None:
        """Return `code`, of a guest that has ended."""
        self._is_over.set()
        self._thread.join(_LAST_SECONDS)
        return self.code

    def _follow(self) -> None:
        while not self._is_over.is_set():
            try:
                with self._connect() as client:
                    self.code = self._ask(client)
                    return
            except CcinitError as error:  # no place free, paused, or gone; or refused
                if isinstance(error, CallRefusedError) and not error.is_for_now:
                    return
                self._is_over.wait(_RETRY_SECONDS)

    def _ask(self, client: GuestClient) -> int:
        state = client.state()
        while state.phase < Phase.STOP:
            self._is_over.wait(_PACE_SECONDS)
            state = client.wait(state.sequence, MAX_WAIT_MS)
        return client.exit_code()
