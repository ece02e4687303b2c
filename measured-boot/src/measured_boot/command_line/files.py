"""Read and write the files that a command line names.

Read: capped, and named where their content is wrong. Written: whole or not at all, and on the disk
before the name leads there: keys are among them, and what others then rely on. The owner's commands
read so, too, and write by `guest_owner.kbs.files`: several files at once, and none through a link.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ccinit.errors import ConfigError, FormatError, LimitExceededError

MAX_KEY_BYTES: Final = 64 * 1024
MAX_TEXT_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 1 << 20


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, which may as well be a device or a pipe.

    One that says that it is larger is not read; none takes more memory than it has content.

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
        raise FormatError("file.text", f"{path}: no text: byte {error.start}") from error


@contextmanager
def reading(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Give the content of a file to whoever parses it; their complaints begin with its name.

    Raises:
        LimitExceededError, OSError: as `read_capped`.
    """
    data = read_capped(path, max_bytes)
    with naming(path):
        yield data


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let complaints about content begin with the name of the file that it came from."""
    try:
        yield
    except FormatError as error:
        raise type(error)(error.reason, f"{path}: {error.detail}") from error


@contextmanager
def naming_place(place: Path) -> Iterator[None]:
    """Let errors that name no file name `place`: so tells a write that it found no room.

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
    """Refuse to replace what is read, and to write one file twice; None is none.

    Raises:
        ConfigError: `file.twice`.
    """
    taken = {path.resolve() for path in read if path is not None}
    for path in written:
        if path is None:
            continue
        if path.resolve() in taken:
            raise ConfigError("file.twice", f"{path} would be replaced: name another file")
        taken.add(path.resolve())


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file that has its old content, or none, until it has all of the new.

    A link stays one, and a device or a pipe is written to as it is.

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
    partial.unlink(missing_ok=True)  # of a process that was killed; its mode may be another
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            if path.exists():  # its readers, before there is anything to read
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
