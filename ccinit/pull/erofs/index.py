"""erofs out of a layer's tar: how the program that makes it is called.

`mkfs.erofs --tar=i` (erofs-utils 1.8) writes the metadata of a file system of 512-byte blocks whose
files lie in the tar, as a second device. It runs as a child of its own, on a tar that our pass has
checked and completed. What it makes is compared with that pass afterwards (`walk`), so nothing here
depends on its reading the tar as we do.

Where tars lie in memory, `mkfs.erofs --tar=f` makes a whole file system instead, compressed by lz4,
which takes least time. Its tar comes by standard input. It has no threads: with one worker it was
seen to crash on a busy machine (version 1.8.6).
"""

from ccinit.values import frozen

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


def compression_arguments(image: str) -> tuple[str, ...]:
    """Return the arguments that make the file `image` from a tar that comes by standard input."""
    return (*COMPRESSION_OPTIONS, image)
