"""An EFI system partition as a whole disk: a FAT file system that holds one UKI, no partitions.

OVMF boots the removable-media path of such a disk (UEFI 2.10, section 3.5.1). The same UKI gives
the same bytes: file system id, label and all times are fixed. `measured_boot` makes the UKI.
"""

import os
from pathlib import Path
from typing import Final

from host_runtime.programs import process
from host_runtime.programs.tools import Tools

_BOOT_PATH: Final = "::/EFI/BOOT/BOOTX64.EFI"
_VOLUME_ID: Final = "cc1a17e5"
_FIXED_TIME: Final = "315532800"  # 1980-01-01, where FAT's calendar begins
_MIB: Final = 1024 * 1024
_SPARE_MIB: Final = 4  # root folder, clusters that round up, and what that division does
_FAT_SHARE: Final = 64  # of two FATs: 4 bytes in each for a cluster of 512


def create_esp(tools: Tools, uki: Path, image: Path) -> Path:
    """Make the disk `image` (a new file) with `uki` as its default boot program; return it.

    Raises:
        ChildError: mkfs.fat or mtools failed; the text says how.
        OSError: with the name of the image, which is there, or has no room.
    """
    uki_mib = -(-uki.stat().st_size // _MIB)
    content_mib = uki_mib + uki_mib // _FAT_SHARE + _SPARE_MIB
    size_mib = max(content_mib, 40)  # FAT32 starts at 33 MiB
    image.touch(exist_ok=False)
    try:
        _reserve(image, content_mib * _MIB)
        os.truncate(image, size_mib * _MIB)
        _fill(tools, uki, image)
    except BaseException:
        image.unlink()  # half an image would make the next try fail, as it "exists"
        raise
    return image


def _reserve(image: Path, size_bytes: int) -> None:
    """Allocate the space to be written now, since mkfs.fat and mtools do not report a full disk.

    The file system's own structures come first, and files fill it from its start.
    """
    try:
        with image.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(image)) from error


def _fill(tools: Tools, uki: Path, image: Path) -> None:
    environment = {
        **tools.environment(),
        "SOURCE_DATE_EPOCH": _FIXED_TIME,
        "MTOOLS_SKIP_CHECK": "1",
        "TZ": "UTC",
    }
    make = ("--invariant", "-F", "32", "-s", "1", "-i", _VOLUME_ID, "-n", "ESP", str(image))
    process.run((*tools.command("mkfs.fat"), *make), environment=environment)
    for folder in ("::/EFI", "::/EFI/BOOT"):
        process.run((*tools.command("mmd"), "-i", str(image), folder), environment=environment)
    copy = ("-i", str(image), str(uki), _BOOT_PATH)
    process.run((*tools.command("mcopy"), *copy), environment=environment)
