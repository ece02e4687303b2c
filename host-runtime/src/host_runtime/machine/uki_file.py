"""Whether a file is a unified kernel image that firmware can boot and, if not, what it is.

Firmware that finds no such program tells nobody: the guest would just never say hello. The content
of the sections is the guest's and its owner's business.

Specification: UAPI group, Unified Kernel Image; Linux, x86 boot protocol (`HdrS`).
"""

from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, FormatError
from measured_boot.command_line.files import read_capped
from measured_boot.image.pe import MAX_IMAGE_BYTES, parse_pe

_SECTIONS: Final = (".linux", ".initrd", ".cmdline")
_KERNEL_MAGIC: Final = slice(0x202, 0x206)
_BOOT_SIGNATURE: Final = slice(510, 512)
_BEGINNINGS: Final = (
    (b"\x7fELF", "an ELF program"),
    (b"070701", "an initrd"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"{", "JSON; a built image's report lies beside its UKI, which ends in .efi"),
)


def require_uki(path: Path) -> None:
    """Check that a file is a program for x86-64 firmware with kernel, initrd and command line.

    Raises:
        ConfigError: `boot.uki`, with what it is instead.
        LimitExceededError: `file.length`.
        OSError: with the name of the file, it cannot be read.
    """
    data = read_capped(path, MAX_IMAGE_BYTES)
    try:
        image = parse_pe(data)
    except FormatError as error:
        found = _recognise(data) or error.detail
        raise ConfigError("boot.uki", f"{path} is not a UKI: {found}") from error
    filled = {section.name for section in image.sections if section.virtual_size}
    missing = [name for name in _SECTIONS if name not in filled]
    if missing:
        found = _recognise(data) or f"an EFI program without {', '.join(missing)}"
        raise ConfigError("boot.uki", f"{path} is not a UKI: {found}")


def _recognise(data: bytes) -> str:
    """Return what a file is by its first bytes, "" if that is not known."""
    if not data:
        return "an empty file"
    if data[_KERNEL_MAGIC] == b"HdrS":
        return "a kernel, which --kernel takes with an --initrd"
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    return "a disk image" if data[_BOOT_SIGNATURE] == b"\x55\xaa" else ""
