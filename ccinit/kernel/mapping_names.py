"""Names of device-mapper devices, by what the kernel's messages call them.

A message names `dm-3` or `253:3`, or a disk below a mapping; only sysfs tells whose it is.
"""

import os

from ccinit.kernel.libc import kernel_error


def find_mapping_name(device: str, sysfs: str = "/sys") -> str:
    """Return the device-mapper name of a device, or of what is built on it.

    Args:
        device: `dm-3` or `253:3`.
        sysfs: where it is mounted.

    Returns:
        The name; `device` itself if it has none.
    """
    kind = "dev/block" if ":" in device else "class/block"
    directory = f"{sysfs}/{kind}/{device}"
    try:
        holders = sorted(os.listdir(f"{directory}/holders"))
        for place in (directory, *(f"{directory}/holders/{one}" for one in holders)):
            if os.path.exists(f"{place}/dm/name"):
                with open(f"{place}/dm/name", encoding="ascii", errors="replace") as file:
                    return file.read().strip()
    except OSError:
        pass  # it is gone; the text has its former name
    return device


def list_mapping_names(sysfs: str = "/sys") -> dict[str, str]:
    """Return the device-mapper names of all mappings, by the kernel's own (`dm-3`).

    Raises:
        KernelError: `kernel.block.list`.
    """
    try:
        found = sorted(os.listdir(f"{sysfs}/class/block"))
    except OSError as error:
        raise kernel_error(error, "block.list", sysfs) from error
    return {name: find_mapping_name(name, sysfs) for name in found if name.startswith("dm-")}
