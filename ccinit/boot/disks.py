"""Disk roles: by content and size, in a fixed order, and no disk may be left over.

The host chooses how many disks there are, their order, names, serial numbers and contents. A disk's
role follows from what its content proves: the initdata magic (then its digest), a measured root
hash (the root's, a verity volume's, the debug tools'), or that a volume's key opens it. A disk that
proves nothing can only be scratch, whose content is never read; these must match the declared
scratch disks by size, one for one.

Pure: the proofs come in as arguments.
"""

from collections.abc import Mapping, Sequence

from ccinit.errors import ConfigError, VerificationError
from ccinit.formats.pod.volume import ScratchVolume
from ccinit.kernel.block import BlockDevice


def select_held(disks: Sequence[BlockDevice]) -> BlockDevice | None:
    """Return the disk that the kernel already uses: the root's, which stage 0 opened.

    Raises:
        VerificationError: `disk.ambiguous`, more than one is in use.
    """
    held = [disk for disk in disks if disk.holders]
    if len(held) > 1:
        raise VerificationError("disk.ambiguous", "more than one disk is in use")
    return held[0] if held else None


def select_candidates(
    disks: Sequence[BlockDevice], taken: Sequence[BlockDevice | None], name: str, size_bytes: int
) -> tuple[BlockDevice, ...]:
    """Return the disks that have no role so far and the size of a declared volume.

    Raises:
        VerificationError: `volume.missing`, there is none.
    """
    found = tuple(disk for disk in disks if disk not in taken and disk.size_bytes == size_bytes)
    if not found:
        raise VerificationError("volume.missing", f"no disk of {size_bytes} bytes for {name}")
    return found


def assign_scratch(
    disks: Sequence[BlockDevice],
    *,
    initdata: BlockDevice,
    root: BlockDevice | None,
    volumes: Mapping[str, BlockDevice],
    scratch: Sequence[ScratchVolume],
) -> tuple[tuple[ScratchVolume, BlockDevice], ...]:
    """Match the remaining disks with the declared scratch disks, and refuse any other outcome.

    Args:
        disks: all that exist.
        initdata: the disk whose document has the measured digest.
        root: the disk under the verity root; None if the root came in the initrd.
        volumes: the disks that proved to be declared volumes, and the one with the debug tools.
        scratch: declared scratch disks.

    Returns:
        The declared scratch disks with their disks, in the order declared.

    Raises:
        VerificationError: `disk.serial`, two disks claim to be the same one; `disk.ambiguous`, a
            disk with two roles; `disk.missing`, no disk of a declared size; `disk.surplus`, a disk
            without a role.
        ConfigError: `disk.read_only`, a scratch disk that cannot be written.
    """
    _check_serials(disks)
    proven = [initdata, *([root] if root is not None else []), *volumes.values()]
    if len({disk.name for disk in proven}) != len(proven):
        raise VerificationError("disk.ambiguous", "one disk has two roles")
    remaining = [disk for disk in disks if disk not in proven]
    assigned = tuple((wanted, _take(remaining, wanted)) for wanted in scratch)
    if remaining:
        raise VerificationError("disk.surplus", f"{remaining[0].name} has no role")
    return assigned


def _take(remaining: list[BlockDevice], wanted: ScratchVolume) -> BlockDevice:
    # Two of the same size are interchangeable: their content means nothing.
    for disk in remaining:
        if disk.size_bytes == wanted.size_bytes:
            if disk.read_only:
                raise ConfigError("disk.read_only", f"{wanted.name} cannot be written")
            remaining.remove(disk)
            return disk
    raise VerificationError(
        "disk.missing", f"no disk of {wanted.size_bytes} bytes for {wanted.name}"
    )


def _check_serials(disks: Sequence[BlockDevice]) -> None:
    serials = [disk.serial for disk in disks if disk.serial]
    if len(set(serials)) != len(serials):
        raise VerificationError("disk.serial", "two disks have the same serial number")
