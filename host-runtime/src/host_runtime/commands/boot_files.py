"""Checks of the files and folders that a boot is given, before anything is made or started.

QEMU would find these mistakes, too, but only once the vTPM and the vsock device are up, and would
report them in terms of its own options.
"""

import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.machine.qemu import Disk

_READ_ONLY: Final = ":ro"
_MAX_SERIAL: Final = 20  # virtio-blk's
_FLOCK: Final = "hhqqi4x"  # struct flock of x86-64: type, whence, start, length, process
_BYTE_OF_WRITERS: Final = 101  # locked by a QEMU that writes; QEMU's block/file-posix.c
_BYTE_OF_SOLE_USERS: Final = 201  # locked by a QEMU that lets nobody else write
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def require_file(path: Path) -> None:
    """Check that a path leads to a regular file that can be read.

    Raises:
        ConfigError: `boot.what`.
    """
    with _opened(path, "boot.what", os.O_RDONLY):
        pass


def _require_disk(path: Path, *, is_read_only: bool) -> os.stat_result:
    flags = os.O_RDONLY if is_read_only else os.O_RDWR
    if not is_read_only and path.is_block_device():
        flags |= os.O_EXCL  # refused for a mounted device, which a guest must not overwrite
    with _opened(path, "boot.disk", flags, may_be_device=True) as descriptor:
        if _is_locked(descriptor, _BYTE_OF_WRITERS) or (
            not is_read_only and _is_locked(descriptor, _BYTE_OF_SOLE_USERS)
        ):
            raise ConfigError(
                "boot.disk",
                f"{path} is the disk of a guest that runs: stop that one, or give this one a copy"
                " (guests share what each of them has behind :ro)",
            )
        return os.fstat(descriptor)


def _is_locked(descriptor: int, byte: int) -> bool:
    """Whether another QEMU has that byte of an image locked; QEMU itself checks in the same way."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError:  # a file system without locks, where QEMU goes on as well
        return False
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


@contextmanager
def _opened(path: Path, reason: str, flags: int, *, may_be_device: bool = False) -> Iterator[int]:
    """Yield a descriptor of a file, or of a block device where that will do."""
    try:
        # First, so that the error names a pipe or a device as such, without opening it.
        _require_kind(path, reason, path.stat(), may_be_device=may_be_device)
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        is_to_write = flags & os.O_RDWR and isinstance(error, PermissionError)
        to_write = " to be written to" if is_to_write else ""
        raise ConfigError(reason, f"{path}{to_write}: {error.strerror}") from error
    try:
        _require_kind(path, reason, os.fstat(descriptor), may_be_device=may_be_device)
        yield descriptor
    finally:
        os.close(descriptor)


def _require_kind(path: Path, reason: str, status: os.stat_result, *, may_be_device: bool) -> None:
    if may_be_device and stat.S_ISBLK(status.st_mode):
        return
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise ConfigError(reason, f"{path} is {name}, not a file")


def parse_disks(words: Sequence[str]) -> tuple[Disk, ...]:
    """Return the disks that are named as `PATH` or `PATH:ro`.

    Raises:
        ConfigError: `boot.disk`: no disk, one that cannot be opened as asked, one named twice, or
            a disk of a running guest.
    """
    disks: list[Disk] = []
    seen: dict[tuple[int, ...], Path] = {}
    for number, word in enumerate(words):
        path, is_read_only = Path(word.removesuffix(_READ_ONLY)), word.endswith(_READ_ONLY)
        status = _require_disk(path, is_read_only=is_read_only)
        is_device = stat.S_ISBLK(status.st_mode)
        identity = (status.st_rdev,) if is_device else (status.st_dev, status.st_ino)
        other = seen.setdefault(identity, path)
        if other is not path:
            kind = "device" if is_device else "file"
            same = f"{path} and {other} are the same {kind}" if other != path else f"{path}: twice"
            raise ConfigError("boot.disk", f"{same}: a {kind} is one disk")
        # A guest refuses two disks with one serial number: files of one name get different ones.
        serial = f"{number}-{path.stem}"[:_MAX_SERIAL]
        disks.append(Disk(path=path, serial=serial, is_read_only=is_read_only, is_device=is_device))
    return tuple(disks)


def require_new_folder(folder: Path) -> None:
    """Refuse a guest's folder that is not empty, or that others may write to.

    Raises:
        ConfigError: `boot.folder`.
        OSError: with the folder's name, it is no folder or cannot be read.
    """
    if not folder.exists():
        return
    if any(folder.iterdir()):
        raise ConfigError("boot.folder", f"{folder} is not empty: name a new folder")
    if folder.stat().st_mode & stat.S_IWOTH:
        raise ConfigError("boot.folder", f"{folder}: everybody may write there: name a new folder")


def claim_folder(folder: Path) -> None:
    """Make a guest's folder and claim it for this boot alone.

    Raises:
        ConfigError: `boot.folder`: another has begun since `require_new_folder`.
        OSError: with the name of what cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o755, exist_ok=True)
    try:
        GuestFiles(folder=folder).events.touch(exist_ok=False)
    except FileExistsError as error:
        raise ConfigError("boot.folder", f"another boot has begun in {folder}") from error
