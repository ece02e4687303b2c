"""What PID 1 and the child that decompresses say to each other; see `layers`."""

from ccinit.formats.oci.compression import Compression
from ccinit.values import frozen


@frozen
class UnpackRequest:
    """How the layers that will come are packed, and the cap on all their tars."""

    layers: tuple[Compression, ...]
    tar_bytes: int


@frozen
class UnpackReply:
    """How many bytes the tars have."""

    tar_bytes: int
