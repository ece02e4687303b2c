"""From a layer's tar to erofs: how to call the program that makes it.

`mkfs.erofs --tar=i` (erofs-utils 1.8) writes the metadata of a file system with 512-byte blocks
whose file content lies in the tar, as a second device. It runs as a child of its own, on a tar that
our pass has checked and completed. The result is compared with that pass afterwards (`walk`), so
nothing depends on its reading the tar as we do.

The index of a small layer is shorter than a page, and Linux 7.3 does not mount such a file (EIO,
"cannot read erofs superblock"; 6.12 and 6.18 do). So each index is padded to a full page.

If tars are in memory, `mkfs.erofs --tar=f` makes a complete file system instead, compressed with
lz4, which is the fastest. It reads the tar from standard input. It runs without threads: with one
worker it was seen to crash on a busy machine (version 1.8.6).
"""

import os

from ccinit.annotations import Final
from ccinit.kernel.libc import kernel_error
from ccinit.values import frozen

PAGE_BYTES: Final = 4096
MKFS_EROFS = "/usr/bin/mkfs.erofs"

_COMMON_OPTIONS = (
    "--quiet",
    "--aufs",  # whiteouts in overlayfs's form
    "-T0",
    "--mkfs-time",  # build time only; files keep theirs
    "-U00000000-0000-0000-0000-000000000000",  # the same tar gives the same index
)
INDEX_OPTIONS = ("--tar=i", *_COMMON_OPTIONS)
COMPRESSION_OPTIONS = ("--tar=f", *_COMMON_OPTIONS, "-zlz4", "-C65536", "--workers=0")


@frozen
class IndexRequest:
    """The arguments of each run of `MKFS_EROFS`."""

    runs: tuple[tuple[str, ...], ...]


@frozen
class IndexReply:
    """All runs have succeeded."""


def index_arguments(tar: str, index: str) -> tuple[str, ...]:
    """Return the arguments that make the file `index` over the file `tar`."""
    return (*INDEX_OPTIONS, index, tar)


def end_with_page(index: str) -> None:
    """Pad an index that nobody else can change any more to a full page; takes no space.

    Raises:
        KernelError: the kernel refused.
    """
    try:
        os.truncate(index, -(-os.stat(index).st_size // PAGE_BYTES) * PAGE_BYTES)
    except OSError as error:
        raise kernel_error(error, "truncate", index) from error


def compression_arguments(image: str) -> tuple[str, ...]:
    """Return the arguments that make the file `image` from a tar that comes by standard input."""
    return (*COMPRESSION_OPTIONS, image)
