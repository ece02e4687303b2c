"""Files of the audit log: the newest grows, older ones are numbered, the oldest make room.

    audit.jsonl              the newest
    audit-000001.jsonl …     older ones, oldest first

Nothing is lost silently: a new file begins with a record that names the file it continues and its
SHA-256, and a file is removed only after a record says so. Anyone can make the KBS write records
(a refused request is one), so without a cap the log would fill the disk; whoever wants to keep all
moves older files away, and what is left still says what it continues. The records themselves are
`guest_owner.kbs.audit`.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

_NUMBER_DIGITS: Final = 6


def older_files(path: Path) -> tuple[Path, ...]:
    """Return the older files of the log whose newest is `path`, oldest first."""
    pattern = f"{path.stem}-{'[0-9]' * _NUMBER_DIGITS}{path.suffix}"
    return tuple(sorted(path.parent.glob(pattern)))


def set_aside(path: Path) -> Path:
    """Make the newest file the youngest of the older ones and return its new path.

    Raises:
        OSError: the directory cannot be written.
    """
    older = older_files(path)
    number = int(older[-1].stem[-_NUMBER_DIGITS:]) + 1 if older else 1
    target = path.with_name(f"{path.stem}-{number:0{_NUMBER_DIGITS}}{path.suffix}")
    path.rename(target)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target


def continuation(path: Path) -> str:
    """Return what the file after `path` begins with: its name and digest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return f"continues {path.name} sha256:{digest.hexdigest()}"


def removal(path: Path) -> str:
    """Return what is recorded before `path` is removed: its name, its records, its digest."""
    with path.open("rb") as file:
        records = sum(1 for _line in file)
    _, _, digest = continuation(path).rpartition(" ")
    return f"removes {path.name} with {records} records, {digest}"
