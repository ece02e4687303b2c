"""Sealed logs of all boots in one folder: each bounded, and all of them together.

A Pod that is restarted over and over leaves a log each time. Beyond the bound, whole logs of
finished boots are removed, the oldest first, since part of a log could not be unsealed. A log is
locked while it is being written, and so is not removed.

A log gets room by steps, because all logs are looked at for each. The size of a log that is written
tells every process how much room it was given, so what was given never exceeds the bound.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from host_runtime.launch.guest import Progress
from host_runtime.oci_runtime.file_lock import locked

_NAME: Final = re.compile(r".+-([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)\.sealed")
_FIRST_STEP_BYTES: Final = 256 << 10
_STEP_BYTES: Final = 4 << 20

Keep = Callable[[bytes], bool]
"""Writes a piece of the log; returns False, and reports why, if no more is kept."""


def sealed_log_name(container: str, begun: datetime) -> str:
    """Return the name of a boot's log; `begun` is in UTC."""
    return f"{container}-{begun:%Y%m%dT%H%M%S.%fZ}.sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedLog:
    """The log of one boot.

    Attributes:
        path: a file that is not there yet, named by `sealed_log_name`.
        max_bytes: of this log.
        all_bytes: of all logs in its folder.
    """

    path: Path
    max_bytes: int
    all_bytes: int

    @contextmanager
    def opened(self, say: Progress) -> Iterator[Keep]:
        """Yield a function that writes the log, which stays locked until the caller is done.

        The function makes the file for its first bytes, and raises OSError if it cannot be made or
        written. None is left empty: no bound of bytes would ever remove those of many boots.
        """
        written = room_end = 0
        output: BinaryIO | None = None

        def keep(data: bytes) -> bool:
            nonlocal written, room_end, output
            if not data:
                return True
            end = written + len(data)
            if end > self.max_bytes:
                say("the sealed log has reached its limit: no more is kept")
                return False
            # Whoever gets more room writes before others look: the size tells them of it.
            with nullcontext() if end <= room_end else locked(self.path.parent):
                if end > room_end and not self._make_room(end, say):
                    say("the sealed logs of guests that run have reached the limit of all of them")
                    return False
                if output is None:
                    output = stack.enter_context(self._make_file())
                    stack.callback(self._leave_no_empty_file, output)
                _write_all(output, data)
            written, room_end = end, max(room_end, self._room_end(end))
            return True

        with ExitStack() as stack:
            yield keep

    def _make_file(self) -> BinaryIO:
        """Make the file, locked; the caller has the folder's lock: it would look finished else."""
        # Nobody else may read or write it, whatever umask the engine has.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fdopen(descriptor, "wb", 0)

    def _leave_no_empty_file(self, output: BinaryIO) -> None:
        """Remove the file if its disk took nothing; nobody else does while it is locked."""
        if os.fstat(output.fileno()).st_size == 0:
            self.path.unlink(missing_ok=True)

    def _make_room(self, end: int, say: Progress) -> bool:
        """Remove logs until this one may grow beyond `end`; return whether it may."""
        logs = [log for log in sorted(_list_logs(self.path.parent)) if log[1] != self.path]
        total = self._room_end(end) + sum(self._room_end(size) for _, _, size in logs)
        if total <= self.all_bytes:  # even if all of them are being written
            return True
        finished = [(path, size) for _, path, size in logs if _is_finished(path)]
        total -= sum(self._room_end(size) - size for _, size in finished)
        for path, size in finished:
            if total <= self.all_bytes:
                break
            path.unlink(missing_ok=True)  # its owner may have fetched it meanwhile
            total -= size
            say(f"dropped the sealed log {path.name}: all together reached their limit")
        return total <= self.all_bytes

    def _room_end(self, size: int) -> int:
        """Return up to which size a log of this size may grow before it needs more room."""
        step = min(max(_FIRST_STEP_BYTES, 1 << (size - 1).bit_length()), _STEP_BYTES)
        return max(size, min(-(-size // step) * step, self.max_bytes))


def _list_logs(folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Yield time, path and size of each log."""
    for entry in os.scandir(folder):
        match = _NAME.fullmatch(entry.name)
        with suppress(FileNotFoundError):  # gone meanwhile
            if match is not None and entry.is_file(follow_symlinks=False):
                yield match[1], Path(entry.path), entry.stat(follow_symlinks=False).st_size


def _is_finished(path: Path) -> bool:
    """Whether nobody is writing a log, as far as this process can tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _write_all(output: BinaryIO, data: bytes) -> None:
    """Write unbuffered, so that a write that fails on a full disk is not repeated at the close."""
    rest = memoryview(data)
    while rest:
        rest = rest[output.write(rest) :]
