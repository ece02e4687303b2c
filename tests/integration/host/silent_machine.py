"""What an operator of silent machines writes: they run nothing, and never say hello.

The kernel of most halts at once. Firmware that finds nothing to boot, as below the image "mute",
takes 4 s of processor time before it is as quiet, and it is the engines that these tests wait for.
"""

import os
from pathlib import Path
from struct import pack_into

from tests.fakes.published.pe_images import uki_image

TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
_OPERATOR = """\
version = 1
log_folder = "{folder}/sealed"
[[image]]
name = "silent"
boot = ["--tools", "{tools}", "--kernel", "{folder}/kernel", "--initrd", "{folder}/initrd",
        "--accelerator", "tcg", "--network", "open"]
[[image]]
name = "pod"
boot = ["--tools", "{tools}", "--kernel", "{folder}/kernel", "--initrd", "{folder}/initrd",
        "--accelerator", "tcg", "--network", "pod"]
[[image]]
name = "mute"
boot = ["--tools", "{tools}", "--uki", "{folder}/uki", "--accelerator", "tcg"]
[defaults]
image = "silent"
memory_mib = 128
[allow]
annotations = [{annotations}]
folders = ["{folder}"]
scratch_bytes = 1073741824
"""


def silent_operator(folder: Path, *annotations: str) -> str:
    """Put what the machines boot into `folder`; return the operator's file.

    Args:
        annotations: which ones the operator allows; disks may come from `folder`.
    """
    (folder / "kernel").write_bytes(halting_kernel())
    (folder / "initrd").write_bytes(b"none")
    (folder / "uki").write_bytes(uki_image())  # as far as a host sees
    allowed = ", ".join(f'"{annotation}"' for annotation in annotations)
    return _OPERATOR.format(folder=folder, tools=TOOLS, annotations=allowed)


def halting_kernel() -> bytes:
    """Return a kernel whose first instructions stop its processor for good.

    Fields: Linux, x86 boot protocol, 2.12.
    """
    image = bytearray(2048)
    image[0x1F1] = 1  # further sectors of set-up, which the processor starts at 0x200
    image[0x1FE:0x206] = b"\x55\xaa\xeb\x66HdrS"  # a jump to 0x268
    pack_into("<H", image, 0x206, 0x20C)
    image[0x211] = 1  # what follows the set-up is loaded high
    pack_into("<I", image, 0x22C, 0x7FFF_FFFF)  # how far up an initrd may be
    image[0x268:0x26C] = b"\xfa\xf4\xeb\xfd"  # cli; hlt; again
    return bytes(image)
