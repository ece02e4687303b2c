"""erofs out of a layer's tar: how the program that makes it is called.

`mkfs.erofs --tar=i` (erofs-utils 1.8) writes the metadata of a file system of 512-byte blocks whose
files lie in the tar, as a second device. It runs as a child of its own, on a tar that our pass has
checked and completed. What it makes is compared with that pass afterwards (`walk`), so nothing here
depends on its reading the tar as we do.

The index of a small layer is shorter than a page, and Linux 7.3 mounts no such file (EIO, "cannot
read erofs superblock"; 6.12 and 6.18 do). So each is made to end with a page.

Where tars lie in memory, `mkfs.erofs --tar=f` makes a whole file system instead, compressed by lz4,
which takes least time. Its tar comes by standard input. It has no threads: with one worker it was
seen to crash on a busy machine (version 1.8.6).
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
    """Fill up the last page of an index that nobody else can change any more; takes no room.

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
