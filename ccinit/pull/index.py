"""An erofs index over a layer's tar: how the program that makes it is called.

`mkfs.erofs --tar=i` (erofs-utils 1.8) writes the metadata of a file system of 512-byte blocks whose
files lie in the tar, as a second device. It runs as a child of its own, on a tar that our pass has
checked and completed. What it makes is compared with that pass afterwards (`tree`), so nothing here
depends on its reading the tar as we do.
"""

from ccinit.values import frozen

MKFS_EROFS = "/usr/bin/mkfs.erofs"

INDEX_OPTIONS = (
    "--quiet",
    "--tar=i",
    "--aufs",  # whiteouts in overlayfs's form
    "-T0",
    "--mkfs-time",  # build time only; files keep theirs
    "-U00000000-0000-0000-0000-000000000000",  # the same tar gives the same index
)


@frozen
class IndexRequest:
    """The arguments of each run of `MKFS_EROFS`."""

    runs: tuple[tuple[str, ...], ...]


@frozen
class IndexReply:
    """How many runs have succeeded: all."""

    indexes: int


def index_arguments(tar: str, index: str) -> tuple[str, ...]:
    """Return the arguments that make the file `index` over the file `tar`."""
    return (*INDEX_OPTIONS, index, tar)
