"""Asks a guest for its pod's exit code, which it tells only while it is ending.

The end lasts two seconds plus the pod's teardown, so a thread follows the guest's states in order
to ask as soon as the end begins, while others wait for QEMU. It occupies one of the guest's few
connections.
"""

import threading
from collections.abc import Callable
from typing import Final

from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import MAX_WAIT_MS, Phase
from host_runtime.plane.rpc_client import CallRefusedError, GuestClient
from host_runtime.programs.thread_start import start_thread

_PACE_SECONDS: Final = 0.1  # slows down a guest whose state changes all the time
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
        # A daemon thread: at the program's end it may still wait for a silent guest.
        self._thread = threading.Thread(target=self._follow, name="exit watch", daemon=True)

    def start(self) -> None:
        """Begin; the guest may be anywhere in its life, or not listen yet.

        Raises:
            OSError: as `start_thread`.
        """
        start_thread(self._thread)

    def finish(self) -> int | None:
        """Return `code`, once the guest has ended."""
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
