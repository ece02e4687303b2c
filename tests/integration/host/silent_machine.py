"""What an operator of silent machines writes: they are firmware that finds nothing to boot."""

import os
from pathlib import Path

from tests.fakes.published.pe_images import uki_image

TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
_OPERATOR = """\
version = 1
log_folder = "{folder}/sealed"
[[image]]
name = "silent"
boot = ["--tools", "{tools}", "--uki", "{folder}/uki", "--accelerator", "tcg", "--network", "open"]
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
    """Put a UKI that starts nothing into `folder`; return the operator's file.

    Args:
        annotations: which ones the operator allows; disks may come from `folder`.
    """
    (folder / "uki").write_bytes(uki_image())  # as far as a host sees
    allowed = ", ".join(f'"{annotation}"' for annotation in annotations)
    return _OPERATOR.format(folder=folder, tools=TOOLS, annotations=allowed)
