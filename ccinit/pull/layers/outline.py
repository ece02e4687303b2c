"""What later layers need to know of a layer whose tar is gone: its directories, as a small tar.

The pass over a layer needs what the layers below show (`tree.MergedDirectory`). If the tars are
kept, an image that shares layers with another one reads them again (`tar_pass.lay_over`). If not,
it reads this instead: each directory with its attributes, the mark of an opaque one, and an empty
file wherever something hides a directory of the layers below.
"""

from collections.abc import Iterator

from ccinit.formats.oci.tar_header import END_OF_ARCHIVE
from ccinit.pull.layers.listing import Attributes
from ccinit.pull.layers.tar_supplement import encode_directory, encode_empty_file
from ccinit.pull.layers.tree import (
    OPAQUE_MARKER,
    Directory,
    MergedDirectory,
    walk_directories,
)

_HIDING = Attributes(mode=0, uid=0, gid=0, mtime=0)


def encode_outline(root: Directory, below: MergedDirectory) -> Iterator[bytes]:
    """Yield the parts of the tar.

    Args:
        root: of the layer, all directories settled.
        below: the layers below, merged; the layer is not yet laid over them.
    """
    for path, directory, merged in walk_directories(root, below):
        yield encode_directory(path, directory.attributes)
        prefix = path + b"/" if path else b""
        if directory.is_opaque:
            yield encode_empty_file(prefix + OPAQUE_MARKER, _HIDING)
        elif merged is not None:
            for name, node in directory.children.items():
                if name in merged.children and not isinstance(node, Directory):
                    yield encode_empty_file(prefix + name, _HIDING)
    yield END_OF_ARCHIVE
