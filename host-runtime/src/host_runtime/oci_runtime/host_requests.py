"""What the host asks of a running guest, as signals to the guest's life.

`ccinit-runtime start` and `kill` send them, and so may an engine that signals the pid directly.
"""

import signal
import threading
import time
from typing import Final

START_SIGNAL: Final = signal.SIGUSR1
STOP_SIGNAL: Final = signal.SIGTERM
_LOOK_SECONDS: Final = 0.05
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class HostRequests:
    """What has been asked for so far; nothing is taken back.

    Signal handlers set these events in the main thread, which must not be using one meanwhile.
    """

    def __init__(self) -> None:
        self.start = threading.Event()
        self.stop = threading.Event()
        self.changed = threading.Event()

    def take_signals(self) -> None:
        """Receive requests as signals from now on."""
        signal.signal(START_SIGNAL, lambda *_: self._note(self.start))
        for number in _STOPPING:
            signal.signal(number, lambda *_: self._note(self.stop))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def await_start(self) -> bool:
        """Wait for the request to start; return whether it came, and none to stop.

        For the main thread, which may look at the events, but not wait for one.
        """
        while not (self.start.is_set() or self.stop.is_set()):
            time.sleep(_LOOK_SECONDS)
        return not self.stop.is_set()

    def end(self) -> None:
        """Receive no more, and wake the thread that waits for one."""
        for number in (START_SIGNAL, *_STOPPING):
            signal.signal(number, signal.SIG_IGN)
        self.changed.set()

    def _note(self, request: threading.Event) -> None:
        request.set()
        self.changed.set()
