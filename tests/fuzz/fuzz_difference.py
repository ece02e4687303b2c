"""Invariant: any two published files that differ get words for it, whatever they hold, and a byte
that was changed in a file of an initrd is said to be in that file.

Run as `python -m tests.fuzz.fuzz_difference [SECONDS [SEED]]`.
"""

import random

from rootfs_builder.guest_image.difference import explain_file
from tests.fakes.published.erofs_images import erofs_image, open_erofs
from tests.fakes.published.pe_images import uki_image
from tests.fuzz.trials import Trials, run
from tests.unit.rootfs_builder.guest_image.image_parts import disk, initrd

FILES = {
    "a.efi": uki_image(),
    "a.root.erofs": disk(erofs_image({"usr/bin/crun": "755:elf"})),
    "a.direct.initrd": initrd(root=erofs_image({"etc/x": "y"})),
    "a.json": b'{"a": [1, {"b": null}], "c": "d"}',
    "a.direct.cmdline": b"quiet panic=-1",
}


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Cut, insert, repeat, or change bytes; something always differs."""
    data = bytearray(seed)
    spot = source.randrange(len(data))
    match source.randrange(4):
        case 0:
            del data[spot:]
        case 1:
            data[spot:spot] = source.randbytes(source.randrange(1, 9))
        case 2:
            data[spot:spot] = data[spot : spot + 1] * source.randrange(1, 3000)
        case _:
            data[spot] ^= 1 << source.randrange(8)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for source in trials:
        name, data = source.choice(tuple(FILES.items()))
        other = mutate(source, data)
        if other != data:
            assert explain_file(name, data, other, open_erofs), (name, other)
            assert explain_file(name, other, data, open_erofs), (name, other)
        plain = FILES["a.direct.initrd"]
        spot = plain.index(b"quiet") + source.randrange(5)
        changed = plain[:spot] + bytes([plain[spot] ^ 1]) + plain[spot + 1 :]
        words = explain_file("a.direct.initrd", plain, changed, open_erofs)
        assert words.startswith("cpio member ccinit.cmdline: line 1: "), words
    return trials.count


if __name__ == "__main__":
    run(main)
