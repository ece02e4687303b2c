"""What an attacking host makes of the parts that it has: complete and consistent forgeries.

A host has the published image, the initdata document, its own firmware's variables, and every tool
that the builder has. So a forged UKI comes from the same linker, a forged root from the same
mkfs.erofs, and no checksum betrays any of them: only measurement can. `tests.demo.attacks` boots
them and judges the outcome.
"""

import hashlib
import struct
from pathlib import Path
from uuid import UUID

from ccinit.errors import FormatError
from host_runtime.host_view.efi_variables import EfiVariable, parse_variable_store
from measured_boot.tpm.pcr import ZERO_PCR, extend
from rootfs_builder.guest_image.erofs import erofs_command
from rootfs_builder.guest_image.stage0_archive import join_initrd
from rootfs_builder.tools_tree import ToolsTree
from tests.chain.published_image import PublishedImage, join_uki

WISH = " mitigations=off"
"""What the attacker would like on the command line: a guest that it can read through its caches."""

_UNUSED_PROGRAM = "usr/bin/crun"
_UNUSED_WORD = b"cgroup"

_FLASH_HEADER_BYTES_AT = 48
_STORE_HEADER_BYTES = 28
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")
_VARIABLE_START, _VARIABLE_ADDED, _VARIABLE_ATTRIBUTES = 0x55AA, 0x3F, 7
_LOAD_OPTION = struct.Struct("<IH")


def forge_token(tools: ToolsTree, image: PublishedImage, folder: Path) -> Path:
    """Make a UKI with one more word in its command line, and the expected line to match."""
    line = image.line + WISH
    return join_uki(tools, image, folder, line, join_initrd(image.common, line, image.root))


def forge_root(tools: ToolsTree, image: PublishedImage, folder: Path) -> Path:
    """Make a UKI whose root differs in one byte of a program that runs long after attestation."""
    folder.mkdir()
    (folder / "root.erofs").write_bytes(image.root)
    tree, forged = folder / "root", folder / "forged.erofs"
    tools.run(("fsck.erofs", f"--extract={tree}", folder / "root.erofs"), directories=(folder,))
    program = tree / _UNUSED_PROGRAM
    program.write_bytes(change_byte(program.read_bytes(), _UNUSED_WORD))
    tools.run(erofs_command(tree, forged), directories=(folder,))
    initrd = join_initrd(image.common, image.line, forged.read_bytes())
    return join_uki(tools, image, folder, image.line, initrd)


def change_byte(data: bytes, word: bytes) -> bytes:
    """Return `data` with the first letter of the first `word` in the other case.

    Raises:
        ValueError: there is no such word.
    """
    position = data.index(word)
    return data[:position] + bytes((data[position] ^ 0x20,)) + data[position + 1 :]


def forge_load_options(used: bytes, pristine: bytes, line: str) -> bytes:
    """Return a variable store whose boot option for the disk passes `line` to the UKI.

    Args:
        used: the store after a boot: it holds the option that firmware made for the disk.
        pristine: the store to add the forged option to.
        line: becomes the option's data, which firmware hands to the program as its load options.

    Raises:
        FormatError: `forge.option`: no boot has left an option for a disk.
    """
    options = [
        variable
        for variable in parse_variable_store(used)
        if variable.name.startswith("Boot0") and "HARDDISK" in _description(variable.value)
    ]
    if not options:
        raise FormatError("forge.option", "firmware has made no boot option for a disk")
    option = options[-1]
    forged = EfiVariable(
        vendor=option.vendor,
        name=option.name,
        value=_without_data(option.value) + _load_options(line),
    )
    order = EfiVariable(
        vendor=option.vendor, name="BootOrder", value=bytes.fromhex(option.name[4:])[::-1]
    )
    return add_variables(pristine, (forged, order))


def measured_load_options(line: str) -> bytes:
    """Return PCR 12 of a boot to whose stub firmware has passed this line, and nothing else."""
    return bytes(extend(ZERO_PCR, hashlib.sha256(_load_options(line)).digest()))


def _load_options(line: str) -> bytes:
    return line.encode("utf-16-le") + b"\0\0"


def add_variables(flash: bytes, variables: tuple[EfiVariable, ...]) -> bytes:
    """Return OVMF's variable flash with these variables behind those that it has.

    The layout is the one that `host_runtime.host_view.efi_variables` reads.
    """
    (header_bytes,) = struct.unpack_from("<H", flash, _FLASH_HEADER_BYTES_AT)
    offset = header_bytes + _STORE_HEADER_BYTES
    for variable in parse_variable_store(flash):
        offset += len(encode_variable(variable))
    added = b"".join(map(encode_variable, variables))
    return flash[:offset] + added + flash[offset + len(added) :]


def encode_variable(variable: EfiVariable) -> bytes:
    """Return an entry of the store, padded as the next one needs it."""
    name = variable.name.encode("utf-16-le") + b"\0\0"
    header = _VARIABLE.pack(
        *(_VARIABLE_START, _VARIABLE_ADDED, 0, _VARIABLE_ATTRIBUTES, 0, bytes(16), 0),
        *(len(name), len(variable.value), UUID(variable.vendor).bytes_le),
    )
    entry = header + name + variable.value
    return entry + b"\xff" * (-len(entry) % 4)


def _description(option: bytes) -> str:
    """Return what a load option (UEFI 2.10 section 3.1.3) is called."""
    return option[_LOAD_OPTION.size :].decode("utf-16-le", "replace").partition("\0")[0]


def _without_data(option: bytes) -> bytes:
    """Return a load option up to the end of its device path."""
    _, path_bytes = _LOAD_OPTION.unpack_from(option)
    name_bytes = 2 * len(_description(option)) + 2
    return option[: _LOAD_OPTION.size + name_bytes + path_bytes]
