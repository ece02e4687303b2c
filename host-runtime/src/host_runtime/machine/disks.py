"""Raw disk images: sparse files whose size is a whole number of 4096-byte blocks.

Their content is the guest's or the caller's business; `host_runtime.host_view.sinks` searches it.
"""

import os
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError

BLOCK_BYTES: Final = 4096


def create_sparse_disk(path: Path, size_bytes: int) -> Path:
    """Make a new disk image that takes up no space until it is written to; return its path.

    Raises:
        ConfigError: `disk.size`: the size is not a positive number of 4096-byte blocks.
        FileExistsError: `path` is there already.
    """
    if size_bytes <= 0 or size_bytes % BLOCK_BYTES:
        raise ConfigError(
            "disk.size", f"{size_bytes} bytes are not whole {BLOCK_BYTES}-byte blocks"
        )
    with path.open("xb") as image:
        os.ftruncate(image.fileno(), size_bytes)
    return path


def create_disk(path: Path, content: bytes) -> Path:
    """Make a new disk image that starts with `content`, padded with zeros to whole blocks."""
    size = max(BLOCK_BYTES, -(-len(content) // BLOCK_BYTES) * BLOCK_BYTES)
    create_sparse_disk(path, size)
    with path.open("r+b") as image:
        image.write(content)
    return path
