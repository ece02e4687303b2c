"""Read the files that a command line names: capped, and named where their content is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ccinit.errors import FormatError, LimitExceededError

MAX_KEY_BYTES: Final = 64 * 1024


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, which may as well be a device or a pipe.

    Raises:
        LimitExceededError: `file.length`, there are more than `max_bytes`.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise LimitExceededError("file.length", f"{path}: more than {max_bytes} bytes")
    return data


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
