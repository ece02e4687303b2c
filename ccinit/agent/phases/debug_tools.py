"""The disk of the debug tools, which `[debug.tools]` of the measured `ccinit.toml` declares.

A declared one has a role like every other disk: it must be there, its hash tree must have the
measured root, and it is mounted only once debug is open. Without the declaration it is a disk too
many, and the guest stops: no KBS can bring in a disk that the guest's document does not declare.
"""

from ccinit.agent.phases.configuration import Configured
from ccinit.boot.disks import select_candidates, select_held
from ccinit.kernel.block import BlockDevice
from ccinit.unlock.verity_volume import select_verity_disk

TOOLS_DISK = "debug.tools"
"""Its name among the disks; no volume can have it: `ccinit.unlock.device_name`."""


def find_tools_disk(configured: Configured) -> BlockDevice | None:
    """Return the disk with the declared tools; None if the configuration declares none.

    Raises:
        VerificationError: `verity.root`, `volume.missing`: no disk has the declared tools.
        KernelError: a disk cannot be read.
    """
    tools = configured.config.debug.tools
    if tools is None:
        return None
    taken = (configured.initdata, select_held(configured.disks))
    disks = select_candidates(configured.disks, taken, TOOLS_DISK, tools.device_bytes)
    return select_verity_disk(TOOLS_DISK, disks, tools)
