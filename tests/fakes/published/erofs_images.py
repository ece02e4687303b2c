"""Things with the superblock of an erofs image, whose files are a JSON text behind it."""

import json
import stat
import struct
from collections.abc import Mapping

from rootfs_builder.guest_image.erofs_reader import ErofsFile

BLOCK = 4096
TEXT = BLOCK


def erofs_image(files: Mapping[str, str], *, build_time: int = 0, filler: bytes = b"") -> bytes:
    """Return an image; `filler` is a layout that no file shows."""
    text = json.dumps(dict(files)).encode() + b"\n" + filler
    blocks = 1 + -(-len(text) // BLOCK)
    superblock = struct.pack(
        "<IIIBBHQQIIII16s16sI",
        *(0xE0F5E1E2, 0, 0, 12, 0, 36, len(files), build_time, 0, blocks, 0, 0),
        *(bytes(16), b"ccinit", 0),
    )
    return (bytes(1024) + superblock).ljust(TEXT, b"\0") + text.ljust((blocks - 1) * BLOCK, b"\0")


def open_erofs(image: bytes) -> Mapping[str, ErofsFile]:
    """Return the files; a value `MODE:text` gives a mode in octal."""
    text = image[TEXT:].partition(b"\n")[0]
    files = {}
    for path, value in json.loads(text).items():
        mode, separator, content = value.partition(":")
        files[path] = ErofsFile(
            mode=stat.S_IFREG | (int(mode, 8) if separator else 0o644),
            owner=(0, 0),
            modified=0,
            data=(content if separator else value).encode(),
        )
    return files
