"""Directories that an image declares as `Volumes`: writable even below a read-only root (R70).

Scope: finding or making them in the container's root. They are mounted from there, so they lie on
scratch, start with the image's content and owners, and live as long as the container. A place where
the pod manifest mounts a volume belongs to the manifest, with everything below it. Left to others:
the mounts (`ccinit.run.preparation`).

The paths are hostile, and so is the root: every step is resolved inside it.
"""

import errno
import os
from collections.abc import Iterable

from ccinit.errors import FormatError, KernelError
from ccinit.formats.pod.places import is_kernels
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.openat2 import open_in_root

_IMAGES_FAULTS = frozenset((errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR))
_MODE = 0o755
_LOOK = os.O_PATH | os.O_DIRECTORY


def find_image_volumes(
    root_fd: int, root: str, volumes: Iterable[str], taken: Iterable[str]
) -> tuple[str, ...]:
    """Return where `volumes` are in the root, each place once, making missing directories.

    Args:
        root_fd: the container's root, open.
        root: its path, absolute and without symbolic links.
        volumes: absolute paths in the container, as the image's config has them.
        taken: paths where something else is mounted.

    Raises:
        FormatError: `run.image_volume`: not a directory, the root itself, a kernel file system, or
            at a path that is not UTF-8.
        KernelError: the kernel refused.
    """
    occupied = set(taken)
    places = dict.fromkeys(_settle(root_fd, root, volume) for volume in volumes)
    return tuple(place for place in places if place not in occupied)


def _settle(root_fd: int, root: str, volume: str) -> str:
    """Return the path of `volume` with symbolic links resolved, making what is missing."""
    place = ""
    for name in filter(None, volume.split("/")):
        place = _step(root_fd, root, place, name)
    if not place or is_kernels(place):
        raise FormatError("run.image_volume", f"{volume[:80]!r} is at {place or '/'}")
    return place


def _step(root_fd: int, root: str, parent: str, name: str) -> str:
    path = f"{parent}/{name}"
    try:
        fd = open_in_root(root_fd, path, _LOOK)
    except KernelError as error:
        if error.errno in _IMAGES_FAULTS:
            raise FormatError("run.image_volume", f"{path[:80]!r} is not a directory") from error
        if error.errno != errno.ENOENT:
            raise
        _make(root_fd, parent, name)
        fd = open_in_root(root_fd, path, _LOOK, follow_links=False)
    try:
        found = os.readlink(b"/proc/self/fd/%d" % fd).decode()
    except UnicodeDecodeError as error:
        detail = f"{path[:80]!r} leads to a name that is not UTF-8, and config.json is"
        raise FormatError("run.image_volume", detail) from error
    except OSError as error:
        raise kernel_error(error, "readlink", path) from error
    finally:
        os.close(fd)
    if found != root and not found.startswith(f"{root}/"):
        raise FormatError("run.image_volume", f"{path[:80]!r} leads out of the root")
    return found.removeprefix(root)


def _make(root_fd: int, parent: str, name: str) -> None:
    parent_fd = open_in_root(root_fd, parent or "/", _LOOK)
    try:
        os.mkdir(name, _MODE, dir_fd=parent_fd)
        os.chmod(name, _MODE, dir_fd=parent_fd)  # whatever the umask is
    except FileExistsError as error:  # a symbolic link that leads nowhere
        raise FormatError("run.image_volume", f"{name[:80]!r} cannot be made") from error
    except OSError as error:  # the disk may be full
        raise kernel_error(error, "mkdir", f"{parent}/{name}") from error
    finally:
        os.close(parent_fd)
