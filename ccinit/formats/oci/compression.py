"""How a layer's tar is compressed; apart, for modules that need nothing else of an image."""

from enum import Enum


class Compression(Enum):
    """How a layer's tar is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
