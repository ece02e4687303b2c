"""What PID 1 and the child that decompresses say to each other; see `layers`."""

from ccinit.formats.oci.compression import Compression
from ccinit.values import frozen


@frozen
class UnpackRequest:
    """How the layers that will come are packed, the position of the first, the cap on all tars."""

    layers: tuple[Compression, ...]
    first: int
    tar_bytes: int


@frozen
class UnpackReply:
    """Every layer has become a tar."""
