"""Read and write the files that a command line names.

Reading is capped, and errors in the content name the file. A file is written whole or not at all,
and flushed before it is renamed into place, since keys are among these files, and others rely on
them. The owner's commands read in the same way, but write with `guest_owner.files`: several
files at once, and none through a link.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ccinit.errors import FormatError, LimitExceededError
from measured_boot.command_line.usage import UsageError

MAX_KEY_BYTES: Final = 64 * 1024
MAX_TEXT_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 1 << 20


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, a device or a pipe.

    A file that is too large by its own size is not read; none takes more memory than its content.

    Raises:
        LimitExceededError: `file.length`, there are more than `max_bytes`.
        OSError: with the name of the file, it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # 0 of a device or a pipe
            data = b"" if size > max_bytes else _read(file, max_bytes + 1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    if max(size, len(data)) > max_bytes:
        raise LimitExceededError("file.length", f"{path}: more than {max_bytes} bytes")
    return data


def _read(file: BinaryIO, max_bytes: int) -> bytes:
    data = io.BytesIO()
    while chunk := file.read(min(max_bytes - data.tell(), _CHUNK_BYTES)):
        data.write(chunk)
    return data.getvalue()


def read_text_capped(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a file, in UTF-8.

    Raises:
        FormatError: `file.text`: it is none.
        LimitExceededError, OSError: as `read_capped`.
    """
    try:
        return read_capped(path, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise FormatError("file.text", f"{path}: not UTF-8 at byte {error.start + 1}") from error


@contextmanager
def reading(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Yield the content of a file; errors raised while parsing it begin with the file's name.

    Raises:
        LimitExceededError, OSError: as `read_capped`.
    """
    data = read_capped(path, max_bytes)
    with naming(path):
        yield data


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make errors about content begin with the name of the file that it came from."""
    try:
        yield
    except FormatError as error:
        raise type(error)(error.reason, f"{path}: {error.detail}") from error


@contextmanager
def naming_place(place: Path) -> Iterator[None]:
    """Add the name `place` to errors that name no file, such as those of writes to a full disk.

    Raises:
        OSError: always with a name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(place)) from error
        raise


def require_apart(written: Iterable[Path | None], read: Iterable[Path | None]) -> None:
    """Refuse to overwrite an input, and to write one file twice; None stands for no file.

    Raises:
        UsageError: `file.twice`.
    """
    taken = {path.resolve() for path in read if path is not None}
    for path in written:
        if path is None:
            continue
        if path.resolve() in taken:
            raise UsageError("file.twice", f"{path} would be replaced: name another file")
        taken.add(path.resolve())


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file atomically: it has its old content, or none, until it has all of the new.

    A link is followed and kept; a device or a pipe is written to directly.

    Args:
        path: where; its folder has to be there.
        data: the content.
        mode: of a file that is new, less what the umask takes away.

    Raises:
        OSError: with the name of the file, whichever step failed.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(path.resolve(), data, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _replace(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # left by a killed process, perhaps with another mode
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            if path.exists():  # decide who may read it before there is anything to read
                shutil.copymode(path, partial)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_names(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system has folders that can be flushed
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
