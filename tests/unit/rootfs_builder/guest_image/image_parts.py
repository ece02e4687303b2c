"""Parts of an image as the builder joins them."""

import zstandard

from measured_boot.image.cpio import CpioEntry, directory, encode_cpio, regular_file
from measured_boot.image.verity import append_hash_tree


def initrd(*, root: bytes = b"", more: tuple[CpioEntry, ...] = (), level: int = 3) -> bytes:
    """An initrd as the builder joins it: what a boot path adds, then the compressed rest."""
    first = [regular_file("ccinit.cmdline", b"quiet")]
    if root:
        first.append(regular_file("root.erofs", root))
    rest = [directory("modules"), regular_file("modules/loop.ko", b"loop" * 500), *more]
    packed = zstandard.ZstdCompressor(level=level).compress(encode_cpio(rest))
    return encode_cpio(first) + packed + bytes(-len(packed) % 4)


def disk(image: bytes) -> bytes:
    return append_hash_tree(image).data
