"""Secrets that firmware passed on, as files (Linux drivers/virt/coco/efi_secret).

Each entry of the table is a file in one directory of securityfs, named by its GUID. Removing a file
overwrites its entry in memory; nothing else can be changed. Debian's kernel lacks this driver; with
it, the directory exists.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ccinit.errors import PeerError
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.libc import kernel_error, open_path
from ccinit.kernel.small_files import read_to_end

SECRETS = "/sys/kernel/security/secrets/coco"
MAX_FILES = 64  # EFI_SECRET_NUM_FILES


@contextmanager
def open_secrets(directory: str = SECRETS) -> Iterator[Mapping[str, int]]:
    """Hold all secrets open for a child; yields descriptors by GUID.

    Raises:
        KernelError: `kernel.efi_secret_list`, `kernel.efi_secret_open`.
        PeerError: `tee.io`, more files than the driver makes.
    """
    fds: dict[str, int] = {}
    try:
        for name in _list(directory):
            path = os.path.join(directory, name)
            fds[name] = open_path(path, os.O_RDONLY | os.O_NOFOLLOW, "efi_secret_open")
        yield fds
    finally:
        close_all(fds.values())


def wipe_secrets(directory: str = SECRETS) -> None:
    """Have the kernel overwrite every secret; none is left afterwards.

    Raises:
        KernelError: `kernel.efi_secret_list`, `kernel.efi_secret_wipe`.
        PeerError: `tee.io`, something is still there.
    """
    failed: OSError | None = None
    for name in _list(directory):
        try:
            os.unlink(os.path.join(directory, name))
        except OSError as error:
            failed = error  # the others are wiped nonetheless
    if failed is not None:
        raise kernel_error(failed, "efi_secret_wipe", directory) from failed
    if _list(directory):
        raise PeerError("tee.io", "a secret is still there after it was wiped")


def _list(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise kernel_error(error, "efi_secret_list", directory) from error
    if len(names) > MAX_FILES:
        raise PeerError("tee.io", f"expected at most {MAX_FILES} secrets, found {len(names)}")
    return names


def read_secret(fd: int, max_bytes: int) -> bytes:
    """Return a secret to its end.

    Raises:
        KernelError: `kernel.efi_secret_read`.
        PeerError: `tee.io`, it has more than `max_bytes`.
    """
    data = read_to_end(fd, max_bytes, "efi_secret_read", "a secret")
    if len(data) > max_bytes:
        raise PeerError("tee.io", f"a secret of more than {max_bytes} bytes")
    return data
