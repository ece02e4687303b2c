"""Where an image's tars are, and how children ask PID 1 for them; see `ccinit.pull.tar_files`."""

from ccinit.values import frozen


def layer_file(position: int) -> str:
    """Return the name of a layer's tar in the image's directory."""
    return f"layer-{position}.tar"


def outline_file(position: int) -> str:
    """Return the name of a layer's outline there."""
    return f"layer-{position}.outline.tar"


@frozen
class NewTar:
    """A question of the `unpack` child: the file for the tar of this layer, please."""

    position: int


@frozen
class GrowingTar:
    """A question of the `layers` child: the tar that `unpack` makes of this layer, please.

    Of a layer that is to be compressed, the file for its outline comes, too.
    """

    position: int


@frozen
class KeptTar:
    """Another one: the tar of this layer, which is there already, or the outline that is left."""

    position: int


@frozen
class OpenedTar:
    """The answer to each of them; the file comes with it."""
