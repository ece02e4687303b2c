"""What the image build says about its volume of debug tools: `ccinit-debug-tools.json`.

    {"root_hash": "…64 hex digits…", "salt": "…64 hex digits…", "data_blocks": N, "size_bytes": N}

The volume is erofs padded to 4096 bytes, then its hash tree, without a superblock. These values are
the only reason to trust anything on it.
"""

from ccinit.errors import FormatError
from ccinit.formats.disk.verity import (
    HASH_BYTES,
    MAX_DATA_BLOCKS,
    SALT_BYTES,
    RootHash,
    Salt,
    VerityParameters,
)
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import MAX_INTEGER, parse_json

MAX_TOOLS_BYTES = 4096


def parse_debug_tools(data: bytes) -> VerityParameters:
    """Read the file.

    Raises:
        FormatError, LimitExceededError: `debug.tools.…`.
    """
    with Fields(parse_json(data, "debug.tools", MAX_TOOLS_BYTES), "debug.tools") as fields:
        parameters = VerityParameters(
            root_hash=RootHash(fields.hexadecimal("root_hash", size_bytes=HASH_BYTES)),
            salt=Salt(fields.hexadecimal("salt", size_bytes=SALT_BYTES)),
            data_blocks=fields.integer("data_blocks", low=2, high=MAX_DATA_BLOCKS),
        )
        size_bytes = fields.integer("size_bytes", low=0, high=MAX_INTEGER)
    if size_bytes != parameters.device_bytes:
        raise FormatError(
            "debug.tools.size_bytes",
            f"{parameters.data_blocks} blocks and their tree are {parameters.device_bytes} bytes",
        )
    return parameters


def format_config(parameters: VerityParameters) -> str:
    """Return the table of `ccinit.toml` that declares the volume."""
    return (
        "[debug.tools]\n"
        f'root_hash = "{parameters.root_hash.hex()}"\n'
        f'salt = "{parameters.salt.hex()}"\n'
        f"data_blocks = {parameters.data_blocks}\n"
    )
