"""How a layer's tar is packed, for those who need to know no more of an image."""

from enum import Enum


class Compression(Enum):
    """How a layer's tar is packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
