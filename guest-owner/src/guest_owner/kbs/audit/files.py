"""Files of the audit log: four chains, whose newest file grows and whose oldest makes room.

    audit.jsonl                        the newest of what guests and administrators did
    audit-000001.jsonl …               older ones, oldest first
    audit-strangers.jsonl              the newest of what anybody can cause: refusals of strangers
    audit-strangers-000001.jsonl …     older ones
    audit-surplus.jsonl                the newest of what pods did beyond their shares
    audit-surplus-000001.jsonl …       older ones
    audit-local.jsonl                  the newest of what commands on the KBS's machine changed
    audit-local-000001.jsonl …         older ones

Nothing is lost silently. A new file begins with a record of the file that it continues: its name
and SHA-256. A file is removed only after a record says so, with the number of records removed so
far. An owner who wants to keep everything moves older files away; the first one left still says
what it continues.

Why several chains: whoever reaches the KBS can make it write refusals. Without a cap these would
fill the disk, and in a common chain they would push out the records of guests, as one guest could
push out those of all others (`guest_owner.kbs.audit.shares`). Only `kbs serve` writes the first
three chains; commands write the fourth, one at a time (`guest_owner.kbs.state.local_changes`). The
records themselves are `guest_owner.kbs.audit.record`.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from guest_owner.files import PRIVATE_MODE, find_mode, sync_directory

_NUMBER_DIGITS: Final = 6  # at least
_MAX_HEAD_BYTES: Final = 4096
_TRIES: Final = 100


def strangers_of(path: Path) -> Path:
    """Return the newest file of strangers' records, given that of the main chain."""
    return path.with_name(f"{path.stem}-strangers{path.suffix}")


def surplus_of(path: Path) -> Path:
    """Return the newest file of what exceeds pods' shares, given that of the main chain."""
    return path.with_name(f"{path.stem}-surplus{path.suffix}")


def local_of(path: Path) -> Path:
    """Return the newest file of what commands changed, given that of the main chain."""
    return path.with_name(f"{path.stem}-local{path.suffix}")


def chains_of(path: Path) -> tuple[Path, ...]:
    """Return the newest file of each chain of a log; `path` is that of the main chain."""
    return (path, strangers_of(path), surplus_of(path), local_of(path))


def older_files(path: Path) -> tuple[Path, ...]:
    """Return the older files of the chain whose newest file is `path`, oldest first."""
    name = re.compile(rf"{re.escape(path.stem)}-[0-9]{{{_NUMBER_DIGITS},}}{re.escape(path.suffix)}")
    older = (one for one in path.parent.glob(f"{path.stem}-*") if name.fullmatch(one.name))
    return tuple(sorted(older, key=_number))


def _number(older: Path) -> int:
    return int(older.stem.rpartition("-")[2])


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, without one that is unfinished or being written.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        yield from whole_lines_of(file)


def whole_lines_of(file: BufferedReader) -> Iterator[bytes]:
    """Yield the lines of an open file; as `whole_lines`."""
    return (line for line in file if line.endswith(b"\n"))


def chain_files(path: Path) -> tuple[Path, ...]:
    """Return all files of the chain whose newest is `path`, oldest first.

    Raises:
        ConfigError: `audit.file`, one is no regular file: opening a pipe, say, would block.
        OSError: it cannot be looked at.
    """
    # A KBS that was stopped between two files has not begun the next one.
    files = (*older_files(path), *(() if find_mode(path) is None else (path,)))
    for file in files:
        _require_regular(file)
    return files


def _require_regular(path: Path) -> None:
    with suppress(FileNotFoundError):  # it may have been removed meanwhile to make room
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError("audit.file", f"{path} is not a regular file: move it away")


@contextmanager
def open_chain(path: Path) -> Iterator[tuple[BufferedReader, ...]]:
    """Open the files of a chain, oldest first: a snapshot, while the KBS may go on writing.

    Raises:
        ConfigError: as `chain_files`.
        OSError: one cannot be read.
    """
    with ExitStack() as stack:
        for _ in range(_TRIES):
            files = _open_at_once(path, stack)
            if files is not None:
                break
            stack.close()  # the chain was rotated meanwhile: once more
        else:
            raise OSError(errno.EBUSY, "it is turned over again and again: try again", str(path))
        yield files


def _open_at_once(path: Path, stack: ExitStack) -> tuple[BufferedReader, ...] | None:
    """Return a chain's open files, which `stack` closes; None if the chain has changed by now."""
    try:
        files = tuple(stack.enter_context(part.open("rb")) for part in chain_files(path))
        now = [_identity(part.stat()) for part in chain_files(path)]
    except FileNotFoundError:
        return None
    return files if now == [_identity(os.fstat(file.fileno())) for file in files] else None


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def find_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a path; None if nothing is there, or it cannot be looked at."""
    try:
        return _identity(path.stat())
    except OSError:
        return None


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file, all of it or nothing; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written; the file is as it was, or empty if there was none.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags, PRIVATE_MODE)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if not size:  # before the first line: if this fails, no refused line stays behind
            sync_directory(path.parent)
        try:
            rest = memoryview(line)
            while rest:  # a nearly full disk takes a part first, and fails at the next write
                rest = rest[file.write(rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)  # otherwise the next line would continue this one
            raise


def drop_unfinished(path: Path) -> int:
    """Cut off a last line that a crash left incomplete; return the file's size, 0 if there is none.

    Nothing is lost: the reply that such a line is about waits until the whole line is on the disk.

    Raises:
        OSError: it cannot be read or cut.
    """
    if find_mode(path) is None:
        return 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read(1) not in {b"", b"\n"}:
            file.seek(0)
            size = file.read().rfind(b"\n") + 1
            file.truncate(size)
    return size


def set_aside(path: Path) -> Path:
    """Make the newest file the youngest of the older ones and return its new path.

    Raises:
        OSError: the directory cannot be written.
    """
    older = older_files(path)
    # Older files may have been moved away: with a reused number, two files would have one name.
    number = max(_number(older[-1]) if older else 0, _continued_number(path)) + 1
    target = path.with_name(f"{path.stem}-{number:0{_NUMBER_DIGITS}}{path.suffix}")
    path.rename(target)
    sync_directory(path.parent)
    return target


def _continued_number(path: Path) -> int:
    """Return the number of the file that this one says it continues; 0 if it says none."""
    with path.open("rb") as file:
        head = file.readline(_MAX_HEAD_BYTES).decode("ascii", "replace")
    told = re.search(
        rf'"continues {re.escape(path.stem)}-([0-9]{{1,18}}){re.escape(path.suffix)} ', head
    )
    return int(told[1]) if told else 0


def continuation(path: Path) -> str:
    """Return what the file after `path` begins with: its name and digest."""
    with path.open("rb") as file:
        return continuation_of(file)


def continuation_of(file: BufferedReader) -> str:
    """Return what the file after an open one begins with."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")
    return f"continues {Path(file.name).name} sha256:{digest.hexdigest()}"


def count_records(path: Path) -> int:
    """Return how many records a file has."""
    with path.open("rb") as file:
        return sum(1 for _line in file)


def removal(path: Path, records: int) -> str:
    """Return what is recorded before `path` is removed: its name, its records, its digest."""
    _, _, digest = continuation(path).rpartition(" ")
    return f"removes {path.name} with {records} records, {digest}"


def remove_older(path: Path) -> None:
    """Remove a file whose removal was recorded, so that not even a crash brings it back.

    Raises:
        OSError: the directory cannot be written.
    """
    path.unlink()
    sync_directory(path.parent)
