"""The owner's files, written so that a crash leaves either the old content or the new.

These are the files of the state directory and those that commands are told to write: keys above
all. Unlike the builder's commands (`measured_boot.command_line.files`), which may write through a
link or to a device, this module refuses links, changes files that belong together as one, and
raises a `ConfigError`, which a server can answer with. It only decides how bytes reach the disk;
which files a state has is `guest_owner.kbs.state.store` and `guest_owner.kbs.authority`.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from measured_boot.command_line import files as named_files

T = TypeVar("T")

# Modes of new files and folders, less what the umask takes away.
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_UNFINISHED = ".new-"


def make_directory(path: Path) -> None:
    """Make a directory that only its owner can enter, and likewise missing ones above it.

    Raises:
        ConfigError: `state.directory`.
    """
    try:
        for missing in reversed([one for one in path.parents if not one.exists()]):
            _make_one(missing)
        if not path.is_dir():
            _make_one(path)
    except OSError as error:
        raise ConfigError("state.directory", f"cannot make {path}: {error.strerror}") from error


def _make_one(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Write a file beside its place, flush it, and rename it into place.

    Raises:
        ConfigError: as `write_all_atomically`.
    """
    write_all_atomically({path: data}, mode=mode)


def write_all_atomically(
    files: Mapping[Path, bytes],
    *,
    mode: int = PRIVATE_MODE,
    public: Collection[Path] = (),
) -> None:
    """Write files beside their places, and flush all before the first is renamed into place.

    So none changes if the disk has no room for one of them. If a later step fails, files that did
    not exist before are removed again, and the error names those that were replaced. Only a process
    that is killed between two renames, which happen in the order of `files`, leaves some changed.

    Args:
        files: contents by path.
        mode: who may read them.
        public: those of them that everybody may read, whatever `mode` says.

    Raises:
        ConfigError: `state.write`; `state.place`, a device, say, or a link would be replaced.
    """
    staged: dict[Path, Path] = {}
    fresh: list[Path] = []
    replaced: list[Path] = []
    path = Path()
    try:
        for path in files:
            _require_place(path)
            make_directory(path.parent)
        for path, data in files.items():
            unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
            descriptor = _create(unfinished, PUBLIC_MODE if path in public else mode)
            staged[path] = unfinished
            _fill(descriptor, data)
        for path, unfinished in staged.items():
            with _opened_folder(path.parent) as folder:  # first: no rename that cannot be flushed
                is_there = path.exists()
                if not is_there:
                    fresh.append(path)
                unfinished.replace(path)
                if is_there:
                    replaced.append(path)
                os.fsync(folder)
    except (OSError, KeyboardInterrupt, SystemExit) as error:
        for unfinished in (*staged.values(), *fresh):
            with contextlib.suppress(OSError):
                unfinished.unlink()
        if isinstance(error, OSError):
            detail = f"cannot write {path}: {error.strerror}"
            if replaced:
                changed = ", ".join(map(str, replaced))
                detail = f"{detail}; replaced all the same, for now at least: {changed}"
            raise ConfigError("state.write", detail) from error
        raise


def _require_place(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ConfigError(
            "state.place", f"{path} is a link or not a regular file: name another path"
        )


def _create(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def write_new(path: Path, data: bytes, reason: str, why: str) -> None:
    """Write a new file that only its owner can read; an existing one is never replaced.

    Raises:
        ConfigError: `state.write`; with `reason`, there is a file, and `why` it must stay.
    """
    make_directory(path.parent)
    try:
        descriptor = _create(path, PRIVATE_MODE)
        try:
            _fill(descriptor, data)
            sync_directory(path.parent)
        except BaseException:
            path.unlink()  # an incomplete key is useless
            raise
    except FileExistsError as error:
        if _is_empty(path):  # left by a process that was killed before it wrote the key
            why = "but it is empty, as a command leaves it that was killed: remove it"
        raise ConfigError(reason, f"{path} exists; {why}") from error
    except OSError as error:
        raise ConfigError("state.write", f"cannot write {path}: {error.strerror}") from error


def _is_empty(path: Path) -> bool:
    try:
        return path.is_file() and not path.stat().st_size
    except OSError:  # gone meanwhile, perhaps
        return False


def remove_unfinished(root: Path) -> None:
    """Remove the unfinished files of killed processes, since they may hold secrets.

    The caller holds the right to change the state, so that nobody is writing.

    Raises:
        ConfigError: `state.remove`.
    """
    for path in root.rglob(f"{_UNFINISHED}*"):
        if is_file(path):
            remove_file(path)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there, so that not even a crash brings it back.

    Raises:
        ConfigError: `state.remove`.
    """
    is_gone = False
    try:
        with _opened_folder(path.parent) as folder:
            path.unlink()
            is_gone = True
            os.fsync(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        detail = f"cannot remove {path}: {error.strerror}"
        if is_gone:
            detail = f"{detail}; it is gone all the same, for now at least"
        raise ConfigError("state.remove", detail) from error


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a directory that only its owner can enter; it moves to `path` if the block succeeds.

    Raises:
        ConfigError: `state.write`; `state.directory`, something is there.
    """
    make_directory(path.parent)
    if path.exists() or path.is_symlink():
        raise ConfigError("state.directory", f"{path} exists: name a new directory")
    try:
        made = Path(tempfile.mkdtemp(dir=path.parent, prefix=_UNFINISHED))
        try:
            yield made
            with _opened_folder(path.parent) as folder:
                made = made.rename(path)
                os.fsync(folder)
        except BaseException:
            shutil.rmtree(made)
            raise
    except OSError as error:
        raise ConfigError("state.write", f"cannot write {path}: {error.strerror}") from error


def is_file(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        ConfigError: `state.read`, it cannot be told, as in a folder that may not be entered.
    """
    try:
        return _is(stat.S_ISREG, path)
    except OSError as error:
        raise ConfigError("state.read", f"cannot read {path}: {error.strerror}") from error


def find_mode(path: Path) -> int | None:
    """Return kind and mode of what is at a path; None if nothing is there.

    Not pathlib's `exists` and its like: from Python 3.14 on, they hide every error.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    mode = find_mode(path)
    return mode is not None and kind(mode)


def list_folder(directory: Path) -> list[Path]:
    """Return a folder's entries sorted by name, without hidden files; none if it does not exist.

    Raises:
        ConfigError: `state.read`.
    """
    try:
        if not _is(stat.S_ISDIR, directory):
            return []
        there = (path for path in directory.iterdir() if not path.name.startswith("."))
        return sorted(there, key=lambda path: path.name)  # paths compare much more slowly
    except OSError as error:
        raise ConfigError("state.read", f"cannot read {directory}: {error.strerror}") from error


def list_below(directory: Path, depth: int) -> list[Path]:
    """Return the entries this many levels below a folder, as `list_folder` does."""
    found = [directory]
    for _ in range(depth + 1):
        found = [path for folder in found for path in list_folder(folder)]
    return found


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Read a whole file of at most `max_bytes`.

    Raises:
        ConfigError: `state.read`, `state.size`.
    """
    try:
        return named_files.read_capped(path, max_bytes)
    except OSError as error:
        raise ConfigError("state.read", f"cannot read {path}: {error.strerror}") from error
    except LimitExceededError as error:
        raise ConfigError("state.size", f"{path} is larger than {max_bytes} bytes") from error


def read_parsed(path: Path, max_bytes: int, parse: Callable[[bytes], T]) -> T:
    """Return what `parse` makes of a whole file of at most `max_bytes`.

    Raises:
        ConfigError: `state.read`, `state.size`; what `parse` says about the form, with the name.
    """
    data = read_capped(path, max_bytes)
    with naming(path):
        return parse(data)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error about a file's content into a ConfigError that names the file.

    Raises:
        ConfigError: with the same reason.
    """
    try:
        yield
    except FormatError as error:
        is_beyond = isinstance(error, LimitExceededError) and error.reason.endswith(".version")
        newer = "; is it of a newer guest-owner?" if is_beyond else ""
        raise ConfigError(error.reason, f"{path}: {error.detail}{newer}") from error


def sync_directory(path: Path) -> None:
    """Flush the entries of a directory to the disk.

    Raises:
        OSError: they cannot be flushed.
    """
    with _opened_folder(path) as folder:
        os.fsync(folder)


@contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
