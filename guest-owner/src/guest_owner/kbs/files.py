"""Files of the owner's state, written so that a crash leaves the old content or the new one.

Only how bytes reach the disk; which files there are is `guest_owner.kbs.store` and
`guest_owner.kbs.authority`.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccinit.errors import ConfigError, FormatError

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, that only its owner can enter.

    Raises:
        ConfigError: `state.directory`.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("state.directory", f"cannot make {path}: {error.strerror}") from error


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Write a file beside its place, flush it and rename it there.

    Raises:
        ConfigError: `state.write`.
    """
    make_directory(path.parent)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise ConfigError("state.write", f"cannot write {path}: {error.strerror}") from error


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Read a whole file of at most `max_bytes`.

    Raises:
        ConfigError: `state.read`, `state.size`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError("state.read", f"cannot read {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise ConfigError("state.size", f"{path} is larger than {max_bytes} bytes")
    return data


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an error in the form of what `path` holds say which file it is, and that it is ours.

    Raises:
        ConfigError: with the same reason.
    """
    try:
        yield
    except FormatError as error:
        raise ConfigError(error.reason, f"{path}: {error.detail}") from error


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk.

    Raises:
        OSError: it cannot be.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
