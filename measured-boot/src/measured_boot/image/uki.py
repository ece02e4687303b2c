"""Plan how ukify assembles a unified kernel image.

A UKI is the stub plus sections, which firmware loads and measures as one file. Beside kernel,
initrd and command line it has only the two sections that ukify always adds, with contents that do
not depend on the circumstances of the build. The caller runs the command.

Specification: UAPI group, Unified Kernel Image; ukify(1).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

OS_RELEASE: Final = "ID=ccinit\nNAME=ccinit\nPRETTY_NAME=ccinit\n"
"""Content of `.osrel`. No version: it would change measurements without changing behaviour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiParts:
    """Files that become sections.

    Attributes:
        stub: the EFI program that the sections are added to.
        kernel: `.linux`.
        kernel_release: `.uname`, told to ukify so that it need not guess it from the kernel.
        os_release: `.osrel`.
        command_line: `.cmdline`, without newline.
        initrd: `.initrd`.
    """

    stub: Path
    kernel: Path
    kernel_release: str
    os_release: Path
    command_line: Path
    initrd: Path


def plan_ukify(parts: UkiParts, output: Path) -> tuple[str, ...]:
    """Return the command that writes the image to `output`."""
    return (
        *("ukify", "build", f"--output={output}", f"--stub={parts.stub}"),
        *(f"--linux={parts.kernel}", f"--uname={parts.kernel_release}"),
        *(f"--os-release=@{parts.os_release}", f"--cmdline=@{parts.command_line}"),
        f"--initrd={parts.initrd}",
    )
