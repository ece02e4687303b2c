"""Whether an image can be made of a package set: checked before minutes go into making it.

A renewed lock brings a kernel and a boot stub that nobody here chose. What no image could use is
found as soon as the lock is renewed, and again before an image is made.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from measured_boot.image.pe import parse_pe
from measured_boot.platforms import Boot, find_platform
from measured_boot.tpm.stub import stub_version
from rootfs_builder.guest_image.kernel_functions import require_functions
from rootfs_builder.guest_image.kernel_modules import ModuleGroup, plan_orders, require_left_out
from rootfs_builder.guest_image.kernel_payload import find_payload
from rootfs_builder.guest_image.kernel_words import require_words
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.workspace import Workspace

STUB: Final = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
_DECOMPRESS: Final = ("zstd", "--decompress", "--quiet", "--stdout", "-")


def require_suitable(workspace: Workspace, quarry: Quarry, command_line: str) -> None:
    """Refuse a package set of which no image can be made, or none whose registers are known.

    Args:
        workspace: whose lists say what is wanted.
        quarry: the package set.
        command_line: of a profile, without our own words.

    Raises:
        ConfigError: `platform.unknown`, nobody has worked out what this stub measures;
            `modules.…`, the kernel lacks a module, or has one that no guest may have;
            `cmdline.initcall`, `kernel.functions`, it might start what has to be left out;
            `cmdline.word`, `kernel.words`, it might not do what a word says.
        FormatError: the stub is none of systemd's.
    """
    _require_known_stub(quarry)
    plan_module_orders(workspace, quarry)
    built_in = quarry.read(f"{quarry.modules}/modules.builtin").decode()
    require_left_out(built_in, command_line)
    payload = find_payload(quarry.read(f"{quarry.modules}/vmlinuz"))
    code = quarry.tree.run(_DECOMPRESS, input_data=payload)
    require_functions(code, built_in, command_line)
    require_words(code, command_line)


def plan_module_orders(
    workspace: Workspace, quarry: Quarry
) -> Mapping[str, tuple[ModuleGroup, ...]]:
    """Return the kernel modules of an image, as `plan_orders` does.

    Raises:
        ConfigError: as for `plan_orders`.
    """
    return plan_orders(
        workspace.read_list("modules.list"),
        quarry.read(f"{quarry.modules}/modules.dep").decode(),
        quarry.read(f"{quarry.modules}/modules.builtin").decode(),
    )


def _require_known_stub(quarry: Quarry) -> None:
    version = stub_version(parse_pe(quarry.read(str(STUB))))
    try:
        find_platform(Boot.UKI, version)
    except ConfigError as error:
        remedy = 'docs/measured-boot.md, "Another stub or firmware"'
        raise ConfigError(error.reason, f"{error.detail}; {remedy}") from error
