"""Make the initrd: the interpreter, stage 0's modules, kernel modules, and what to expect.

A boot path adds the expected command line and, for carrier `ram`, the root image; everything else
is common and compressed once. `ccinit.init.stage0` makes use of it.

Specification: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`: an initramfs may
consist of several archives, each compressed or not; later files join earlier ones.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from measured_boot.image.cpio import (
    CpioEntry,
    character_device,
    directory,
    encode_cpio,
    regular_file,
    symbolic_link,
)
from rootfs_builder.guest_image.kernel_modules import ModuleFile, ModuleGroup, encode_order
from rootfs_builder.guest_image.python_modules import SITE
from rootfs_builder.guest_image.root_tree import RootTree, folders_of
from rootfs_builder.packages.quarry import Quarry

ZSTD_COMMAND: Final = ("zstd", "-19", "--single-thread", "--no-check", "--quiet", "--stdout", "-")
EXPECTED_LINE: Final = "ccinit.cmdline"
ROOT_IMAGE: Final = "root.erofs"
_MOUNT_POINTS: Final = ("dev", "proc", "sys")
# A `#!` line can pass on only one argument, so both flags are in it. No path is searched that could
# have come with the kernel's start of PID 1. The kernel is still testing its ciphers when it starts
# PID 1, and on one processor those threads would take half of the time; a module that needs a
# cipher waits for its test all the same.
_INIT: Final = f"""#!/usr/bin/python3.13 -IS
import sys

sys.dont_write_bytecode = True
sys.path.append("{SITE}")

from ccinit.kernel.priority import HIGHEST, set_priority

set_priority(HIGHEST)

from ccinit.init.stage0 import main

main()
"""


def encode_stage0(
    interpreter: RootTree,
    orders: Mapping[str, tuple[ModuleGroup, ...]],
    contents: Mapping[ModuleFile, bytes],
) -> bytes:
    """Return the common archive, not compressed.

    Args:
        interpreter: Python with what stage 0 imports.
        orders: kernel modules in load order: of every guest under "", of a platform by its driver.
        contents: each module, decompressed.
    """
    entries = [directory(path) for path in (*_MOUNT_POINTS, "modules", *folders_of(interpreter))]
    entries.append(character_device("dev/null", 1, 3, 0o666))
    # Python asks for a few random bytes at its start, and makes do with these if the kernel has no
    # seed yet. Without them it would end, and the guest with it, before it could report RANDOM.
    entries.append(character_device("dev/urandom", 1, 9, 0o444))
    entries.append(regular_file("init", _INIT.encode(), 0o755))
    for module, data in contents.items():
        entries.append(regular_file(f"modules/{module.file_name}", data))
    for driver, groups in orders.items():
        name = f"modules/order.{driver}".removesuffix(".")
        entries.append(regular_file(name, encode_order(groups).encode()))
    entries += _tree_entries(interpreter)
    return encode_cpio(entries)


def compress(quarry: Quarry, archive: bytes) -> bytes:
    """Return the archive as the kernel's zstd reader takes it, padded to 4 bytes.

    The padding lets another archive follow.
    """
    packed = quarry.tree.run(ZSTD_COMMAND, input_data=archive)
    return packed + bytes(-len(packed) % 4)


def compression_key(quarry: Quarry, archive: bytes) -> str:
    """Return what decides the bytes that `compress` gives, as hex digits for a file name.

    Another zstd compresses the same archive differently, so the package set counts, too: otherwise,
    a builder with an older cached archive would publish bytes that nobody else can reproduce.
    """
    packages = [(package.name, package.version, package.sha256) for package in quarry.packages]
    digest = hashlib.sha256(repr((ZSTD_COMMAND, packages)).encode())
    digest.update(hashlib.sha256(archive).digest())
    return digest.hexdigest()


def join_initrd(common: bytes, expected_line: str, root_image: bytes = b"") -> bytes:
    """Return the initrd of one boot path.

    The parts of the boot path come first and uncompressed: a root image is compressed in itself.

    Args:
        common: the compressed common archive.
        expected_line: what /proc/cmdline must read, without newline.
        root_image: the root file system, for carrier `ram` only.
    """
    entries = [regular_file(EXPECTED_LINE, expected_line.encode("ascii"))]
    if root_image:
        entries.append(regular_file(ROOT_IMAGE, root_image))
    return encode_cpio(entries) + common


def _tree_entries(tree: RootTree) -> Iterable[CpioEntry]:
    for path, entry in tree.entries.items():
        if entry.link:
            yield symbolic_link(path, entry.link)
        else:
            yield regular_file(path, entry.data, 0o755 if entry.executable else 0o644)
