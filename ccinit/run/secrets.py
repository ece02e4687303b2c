"""Secrets as files: on a tmpfs of the guest, owned by the container's user, bound read-only.

Scope: writing and erasing them. Left to others: fetching (`ccinit.attest`), the bind mount
(`ccinit.run.spec`), the tmpfs itself (`ccinit.boot`; a guest has no swap).
"""

import os
from typing import Final

from ccinit.errors import LimitExceededError
from ccinit.kernel.libc import kernel_error
from ccinit.run.spec import BindMount
from ccinit.run.users import Identity
from ccinit.secret import Secret
from ccinit.values import frozen

MAX_SECRET_BYTES: Final = 1 << 20


@frozen
class SecretFile:
    """One secret of one container; `mode` are permission bits, `path` is inside the container."""

    path: str
    mode: int
    content: Secret


def write_secrets(
    directory: str, files: tuple[SecretFile, ...], identity: Identity
) -> tuple[BindMount, ...]:
    """Write `files` into the new directory `directory`; return the mounts that show them.

    The names there are numbers: a path from a manifest never names a file of the guest.

    Raises:
        LimitExceededError: `run.secret`.
        KernelError: the kernel refused; `erase_secrets` cleans up what exists.
    """
    if sum(len(file.content) for file in files) > MAX_SECRET_BYTES:
        raise LimitExceededError("run.secret", f"more than {MAX_SECRET_BYTES} bytes")
    try:
        os.mkdir(directory, 0o700)
        for number, file in enumerate(files):
            _write(f"{directory}/{number}", file, identity)
    except OSError as error:
        raise kernel_error(error, "write_secret", directory) from error
    return tuple(
        BindMount(source=f"{directory}/{number}", target=file.path, read_only=True)
        for number, file in enumerate(files)
    )


def erase_secrets(directory: str) -> None:
    """Overwrite and remove what `write_secrets` wrote; a directory that is not there is fine."""
    try:
        for name in os.listdir(directory):
            _erase(f"{directory}/{name}")
        os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise kernel_error(error, "erase_secret", directory) from error


def _write(path: str, file: SecretFile, identity: Identity) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        content = file.content.reveal()
        written = 0
        while written < len(content):
            written += os.write(fd, content[written:])
        # the owner first: chown clears bits that chmod sets
        os.fchown(fd, identity.uid, identity.gid)
        os.fchmod(fd, file.mode)
    finally:
        os.close(fd)


def _erase(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        rest = os.fstat(fd).st_size
        while rest > 0:
            rest -= os.write(fd, bytes(min(rest, 65536)))
    finally:
        os.close(fd)
    os.unlink(path)
