"""What a pod's host reports about its guest, in the log of each container of the pod.

An engine discards the output of a sandbox and keeps that of containers. So the guest's life writes
its few lines into a file, too, and each container's life copies them from there.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from host_runtime.launch.guest import Progress
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.life import say
from host_runtime.programs.thread_start import start_thread

_FILE: Final = "said"
_LOOK_SECONDS: Final = 1.0


@contextmanager
def pod_log(container: Container) -> Iterator[Progress]:
    """Yield a function that writes a line to a guest's own log and for its pod's containers."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(container.folder / _FILE, flags, 0o600)

    def say_to_all(text: str) -> None:
        say(text)
        with suppress(OSError):  # no room: the guest goes on
            os.write(descriptor, f"{text}\n".encode(errors="backslashreplace"))

    try:
        yield say_to_all
    finally:
        os.close(descriptor)


@contextmanager
def copied_pod_log(container: Container) -> Iterator[None]:
    """Copy the lines about a guest into this process's log while the block runs."""
    over = threading.Event()
    with (container.folder / _FILE).open(encoding="utf-8", errors="replace") as said:
        copying = threading.Thread(target=_copy, args=(said, over))
        start_thread(copying)
        try:
            yield
        finally:
            over.set()
            copying.join()


def _copy(said: TextIO, over: threading.Event) -> None:
    is_over = False
    while not is_over:
        is_over = over.wait(_LOOK_SECONDS)
        for line in said:
            say(line.removesuffix("\n"))
