"""The published image taken apart, as anybody can, and put together again with other parts."""

import json
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import FormatError
from ccinit.formats.disk.verity import BLOCK_BYTES
from measured_boot.image.pe import PeImage, parse_pe
from measured_boot.image.uki import UkiParts, plan_ukify
from rootfs_builder.guest_image.stage0_archive import join_initrd
from rootfs_builder.tools_tree import ToolsTree

_STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedImage:
    """The parts of a published UKI, as anybody can take it apart.

    Attributes:
        line: the command line.
        root: the root's erofs image.
        common: the part of the initrd that does not depend on the boot path.
    """

    uki: PeImage
    line: str
    root: bytes
    common: bytes


def read_image(folder: Path, profile: str) -> PublishedImage:
    """Take the published image of a profile apart.

    Raises:
        FormatError: `image.initrd`: it is not put together as expected.
    """
    report = json.loads((folder / f"ccinit-{profile}.json").read_text())
    uki = parse_pe((folder / f"ccinit-{profile}.efi").read_bytes())
    disk = (folder / f"ccinit-{profile}.root.erofs").read_bytes()
    root, line = disk[: report["blocks"] * BLOCK_BYTES], report["command_lines"]["uki"]
    initrd, own = bytes(uki.section(".initrd")), join_initrd(b"", line, root)
    if not initrd.startswith(own):
        raise FormatError("image.initrd", "does not begin with the line and the root")
    return PublishedImage(uki=uki, line=line, root=root, common=initrd[len(own) :])


def join_uki(
    tools: ToolsTree, image: PublishedImage, folder: Path, line: str, initrd: bytes
) -> Path:
    """Make a UKI of the image's other sections and return its path below `folder`."""
    folder.mkdir(exist_ok=True)
    parts = {
        "kernel": bytes(image.uki.section(".linux")),
        "os-release": bytes(image.uki.section(".osrel")),
        "cmdline": line.encode(),
        "initrd": initrd,
    }
    for name, content in parts.items():
        (folder / name).write_bytes(content)
    output = folder / "joined.efi"
    tools.run(
        plan_ukify(
            UkiParts(
                stub=_STUB,
                kernel=folder / "kernel",
                kernel_release=bytes(image.uki.section(".uname")).decode(),
                os_release=folder / "os-release",
                command_line=folder / "cmdline",
                initrd=folder / "initrd",
            ),
            output,
        ),
        directories=(folder,),
    )
    return output
