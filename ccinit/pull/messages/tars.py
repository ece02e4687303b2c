"""An image's tars: where they are, how they are made, and how children ask PID 1 for them.

See `layers`, and `ccinit.pull.tar_files`.
"""

from ccinit.formats.oci.compression import Compression
from ccinit.values import frozen


def layer_file(position: int) -> str:
    """Return the name of a layer's tar in the image's directory."""
    return f"layer-{position}.tar"


def outline_file(position: int) -> str:
    """Return the name of a layer's outline there."""
    return f"layer-{position}.outline.tar"


@frozen
class UnpackRequest:
    """How the layers that will come are packed, the position of the first, the cap on all tars."""

    layers: tuple[Compression, ...]
    first: int
    tar_bytes: int


@frozen
class UnpackReply:
    """Every layer has become a tar."""


@frozen
class NewTar:
    """A question of the `unpack` child, for the file that the tar of this layer goes into."""

    position: int


@frozen
class GrowingTar:
    """A question of the `layers` child, for the tar that `unpack` makes of this layer.

    For a layer that is to be compressed, the file for its outline comes, too.
    """

    position: int


@frozen
class KeptTar:
    """Another one, for the tar of a layer that is there already, or for its outline."""

    position: int


@frozen
class OpenedTar:
    """The answer to each of them; the file comes with it."""
