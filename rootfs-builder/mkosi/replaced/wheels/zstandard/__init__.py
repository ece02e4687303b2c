"""zstandard by its C module, which is the one that is here, and of that what undoes a compression.

The package's own asks `platform` which Python this is, by regular expressions.
"""

from zstandard.backend_c import ZstdDecompressor, ZstdError

__all__ = ["ZstdDecompressor", "ZstdError"]
