"""Boots of the production image that OVMF measures: either carrier, on either boot path.

Two of the four are published. The other two are put together from the same parts in the same way,
since nothing but the measured command line decides on a carrier.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ccinit.formats.cmdline import Carrier
from host_runtime.commands.boot_plan import ovmf
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.esp import create_esp
from host_runtime.machine.qemu import DirectBoot, Disk, EspBoot
from measured_boot.image_files import read_report
from measured_boot.platforms import Boot
from measured_boot.prediction import DirectKernelBoot, UkiBoot
from measured_boot.tpm.direct_line import line_of_kernel
from rootfs_builder.guest_image.stage0_archive import join_initrd
from rootfs_builder.tools_tree import ToolsTree
from tests.chain.published_image import PublishedImage, join_uki, read_image
from tests.vm.direct_boot import IMAGES, TOOLS

_STEM: Final = IMAGES / "ccinit-prod"
_ROOT: Final = Disk(path=_STEM.with_suffix(".root.erofs"), serial="root", is_read_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBoot:
    """One way to boot the image.

    Attributes:
        what: is predicted.
        plan: of the machine that boots the same.
        disks: that it needs.
    """

    what: UkiBoot | DirectKernelBoot
    plan: EspBoot | DirectBoot
    disks: tuple[Disk, ...]

    def put_into(self, config: GuestConfig) -> GuestConfig:
        """Return a machine like `config` that boots this way; its first disk was a root."""
        disks = (*self.disks, *config.disks[1:])
        return replace(config, boot=self.plan, firmware=ovmf(TOOLS), disks=disks)


def make_boot(path: Boot, carrier: Carrier, folder: Path) -> MeasuredBoot:
    """Make one from the published files, below `folder`."""
    image = read_image(IMAGES, "prod")
    lines = read_report(_STEM.with_suffix(".json"))["command_lines"]
    line = lines["direct" if carrier is Carrier.DISK else "uki"]
    root = image.root if carrier is Carrier.RAM else b""
    disks = (_ROOT,) if carrier is Carrier.DISK else ()
    if path is Boot.UKI:
        return _make_uki_boot(image, line, root, disks, folder)
    kernel, initrd = _STEM.with_suffix(".vmlinuz"), folder / "initrd"
    initrd.write_bytes(join_initrd(image.common, line_of_kernel(line), root))
    return MeasuredBoot(
        what=DirectKernelBoot(
            kernel=kernel.read_bytes(), initrd=initrd.read_bytes(), command_line=line
        ),
        plan=DirectBoot(kernel=kernel, initrd=initrd, command_line=line),
        disks=disks,
    )


def _make_uki_boot(
    image: PublishedImage, line: str, root: bytes, disks: tuple[Disk, ...], folder: Path
) -> MeasuredBoot:
    assert TOOLS.tree is not None
    initrd = join_initrd(image.common, line, root)
    uki = join_uki(ToolsTree(TOOLS.tree), image, folder / "parts", line, initrd)
    return MeasuredBoot(
        what=UkiBoot(uki=uki.read_bytes()),
        plan=EspBoot(image=create_esp(TOOLS, uki, folder / "esp.img")),
        disks=disks,
    )
