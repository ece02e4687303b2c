"""Names of device-mapper devices, each of which the kernel lets exist once.

The device that is mounted has the name of its volume, which has no dots, behind `ccinit-`. Every
other one has a dot: those below it have one more part, the debug tools are a volume whose name no
manifest can have, and the guest's root has its name from `ccinit.init.stage0`. So no volume takes
the name of another device.
"""

_PREFIX = "ccinit-"
_INTEGRITY = ".integrity"


def name_device(volume: str) -> str:
    """Return the name of the device that is mounted."""
    return f"{_PREFIX}{volume}"


def name_integrity(volume: str) -> str:
    """Return the name of the dm-integrity device below it."""
    return f"{_PREFIX}{volume}{_INTEGRITY}"


def name_former(volume: str) -> str:
    """Return the name of the beginning of a disk that was smaller before."""
    return f"{_PREFIX}{volume}.former"


def volume_of(device: str) -> str | None:
    """Return the volume of a device that is mounted, or of the dm-integrity below it.

    None if the name is not by this rule at all; of other devices by it, what follows the prefix.
    """
    if not device.startswith(_PREFIX):
        return None
    return device.removeprefix(_PREFIX).removesuffix(_INTEGRITY)
