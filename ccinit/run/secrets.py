"""Secrets as files: on a tmpfs of the guest, owned by the container's user, bound read-only.

A file that may be replaced while the container runs cannot be bind-mounted itself: the mount would
keep showing the old file. So its directory is bound, and a new file is renamed over the old one.

Scope: writing, replacing and erasing them. Left to others: fetching (`ccinit.attest`), the bind
mount (`ccinit.run.spec`), the tmpfs itself (`ccinit.boot`; a guest has no swap).
"""

import os
from contextlib import suppress
from typing import Final

from ccinit.errors import KernelError, LimitExceededError
from ccinit.formats.pod.secret import MAX_FILES_BYTES
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import kernel_error
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, SecretFile

_FRESH: Final = "fresh"


def write_secrets(
    directory: str, files: tuple[SecretFile, ...], identity: Identity
) -> tuple[BindMount, ...]:
    """Write `files` into the new directory `directory`; return the mounts that show them.

    The files are named by numbers, so that a manifest's path never names a file of the guest. Only
    in directories that are bound as a whole do they have the names that the container sees: the
    last part of the path.

    Raises:
        LimitExceededError: `run.secret`.
        KernelError: the kernel refused; `erase_secrets` cleans up what exists.
    """
    _check_size(files)
    fixed = tuple(file for file in files if not file.rotates)
    folders = _folders(files)
    try:
        os.mkdir(directory, 0o700)
        for number, file in enumerate(fixed):
            _write(f"{directory}/{number}", file, identity)
        for folder in folders.values():
            os.mkdir(f"{directory}/{folder}", 0o700)
            os.chmod(f"{directory}/{folder}", 0o755)  # noqa: S103  # of one container
        for file in files:
            if file.rotates:
                place, name = file.place
                _write(f"{directory}/{folders[place]}/{name}", file, identity)
    except OSError as error:
        raise kernel_error(error, "write_secret", directory) from error
    return (
        *(
            BindMount(source=f"{directory}/{number}", target=file.path, read_only=True)
            for number, file in enumerate(fixed)
        ),
        *(
            BindMount(source=f"{directory}/{folder}", target=place, read_only=True)
            for place, folder in folders.items()
        ),
    )


def replace_secrets(
    directory: str,
    written: tuple[SecretFile, ...],
    files: tuple[SecretFile, ...],
    identity: Identity,
) -> None:
    """Replace files that rotate, each atomically: a reader gets either the old or the new content.

    Args:
        directory: as for `write_secrets`.
        written: the files given to that.
        files: with the new content.
        identity: the files' owner.

    Raises:
        LimitExceededError: `run.secret`.
        KernelError: the kernel refused; files not yet replaced keep their old content.
    """
    _check_size(files)
    folders = _folders(written)
    fresh = f"{directory}/{_FRESH}"
    try:
        for file in files:
            place, name = file.place
            _write(fresh, file, identity)
            os.rename(fresh, f"{directory}/{folders[place]}/{name}")
    except OSError as error:
        with suppress(OSError):
            _erase(fresh)  # else it would be in the way of every later attempt
        raise kernel_error(error, "write_secret", directory) from error


def _check_size(files: tuple[SecretFile, ...]) -> None:
    size = sum(len(file.content) for file in files)
    if size > MAX_FILES_BYTES:
        detail = f"expected at most {MAX_FILES_BYTES} bytes of a container's files, found {size}"
        raise LimitExceededError("run.secret", detail)


def _folders(files: tuple[SecretFile, ...]) -> dict[str, str]:
    """Return the local name of each directory that is bound as a whole."""
    places = dict.fromkeys(file.place[0] for file in files if file.rotates)
    return {place: f"directory-{number}" for number, place in enumerate(places)}


def erase_secrets(directory: str) -> None:
    """Overwrite and remove what `write_secrets` wrote; a missing directory is not an error.

    Raises:
        KernelError: the first failure; all other files are erased.
    """
    failures: list[KernelError] = []
    try:
        for entry in tuple(os.scandir(directory)):
            try:
                _erase_entry(entry)
            except KernelError as error:
                failures.append(error)
        if not failures:
            os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise kernel_error(error, "erase_secret", directory) from error
    if failures:
        raise failures[0]


def _erase_entry(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        erase_secrets(entry.path)
        return
    try:
        _erase(entry.path)
    except OSError as error:
        raise kernel_error(error, "erase_secret", entry.path) from error


def _write(path: str, file: SecretFile, owner: Identity) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with Descriptor(os.open(path, flags, 0o600)) as fd:
        content = file.content.reveal()
        written = 0
        while written < len(content):
            written += os.write(fd, content[written:])
        # the owner first: chown clears bits that chmod sets
        os.fchown(fd, owner.uid, owner.gid)
        os.fchmod(fd, file.mode)


def _erase(path: str) -> None:
    with Descriptor(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)) as fd:
        rest = os.fstat(fd).st_size
        while rest > 0:
            rest -= os.write(fd, bytes(min(rest, 65536)))
    os.unlink(path)
