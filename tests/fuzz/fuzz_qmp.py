"""Invariant: whatever QEMU says on its monitor, and wherever it dies, a guest's launcher ends by an
end that it knows or by an error of ours; what it tells people is text, and what it writes down has
an end.

Run as `python -m tests.fuzz.fuzz_qmp [SECONDS [SEED]]`.
"""

import contextlib
import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ccinit.errors import CcinitError
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.machine.qmp import QmpClient
from tests.fuzz.mutation import mutate_json, mutate_text
from tests.fuzz.trials import Trials, run

_LOG_BYTES = 2 * 1024 * 1024  # the limit, and the line that crosses it
GREETING, DONE = b'{"QMP": {"version": {}, "capabilities": []}}', b'{"return": {}}'
DISK = b'{"event": "BLOCK_IO_ERROR", "data": {"node-name": "disk0", "reason": "No space left"}}'
STOP = b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}'
STATUS = b'{"return": {"running": false, "status": "internal-error"}}'
EVENTS = (
    *(b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}', DISK, STOP),
    *(b'{"event": "GUEST_CRASHLOADED", "data": {"action": "run"}}', STOP + b"\n" + STATUS),
    *(b'{"error": {"class": "GenericError", "desc": "no"}}', DONE, STATUS, b'{"event": "RESUME"}'),
)
NOISE = (
    *(b"\n", b"\0", b"\xff", b"\\ud800", b"{}", b"[]", b"null", b"[" * 2000, b'"event":', b"1e999"),
    *(b'"return": 1, ', b'"data": [], ', b"9" * 5000, b"x" * 70000, b"NaN", b"\\u0000", b"\r"),
)


class Monitor:
    """A QEMU's socket; each connection says what is next, and ends."""

    def __init__(self, path: Path) -> None:
        self.script = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(OSError):
                if not self.script:
                    return
                connection.sendall(self.script)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

    def close(self, path: Path) -> None:
        self.script = b""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
        self._thread.join()
        self._listener.close()


class Process:
    """A QEMU that ends as soon as it is asked to."""

    pid = 1

    def __init__(self) -> None:
        self._code: int | None = None

    def exit_code(self) -> int | None:
        return self._code

    def wait(self, _seconds: float) -> int:
        self._code = 0
        return 0

    def stop(self) -> None:
        self._code = -9

    def bound_log(self) -> None:
        """It has none."""

    def log_tail(self) -> str:
        return ""


def script(source: random.Random) -> bytes:
    """Return what a QEMU says, well or badly, up to where it dies."""
    lines = [GREETING, DONE, *source.choices(EVENTS, k=source.randrange(6))]
    for _ in range(source.randrange(3)):
        spot = source.randrange(len(lines))
        mutate = source.choice((mutate_json, mutate_json, mutate_text))
        lines[spot] = mutate(source, lines[spot], NOISE)
    said = b"".join(line + b"\n" for line in lines)
    return said if source.randrange(4) else said[: source.randrange(1, len(said) + 1)]


@contextlib.contextmanager
def guest(path: Path, folder: Path, told: list[str]) -> Iterator[Guest]:
    """Connect to the monitor, as the launcher does."""
    files, process = GuestFiles(folder=folder), Process()
    nowhere: Any = None
    qemu: Any = process
    with QmpClient(path, files.events) as qmp:
        yield Guest(files=files, qemu=qemu, qmp=qmp, link=nowhere, progress=told.append)


def check(path: Path, folder: Path) -> EndReason | None:
    """Follow a guest to its end; return how it ended, None if by an error of ours."""
    told: list[str] = []
    end = None
    with contextlib.suppress(CcinitError), guest(path, folder, told) as one:
        end = one.wait_for_end(60)
        one.require_sound_end()
    for text in told:
        text.encode()
    return end


def main(seconds: float, seed: int) -> int:
    """Follow guests for a while; return how many."""
    trials = Trials(seconds, seed)
    ends = 0
    with tempfile.TemporaryDirectory() as name:
        path, folder = Path(name) / "qmp", Path(name)
        (folder / "events.jsonl").touch()
        monitor = Monitor(path)
        try:
            for source in trials:
                monitor.script = script(source)
                ends += check(path, folder) not in {None, EndReason.CRASHED}
                assert (folder / "events.jsonl").stat().st_size <= _LOG_BYTES
        finally:
            monitor.close(path)
    trials.require(ends, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
