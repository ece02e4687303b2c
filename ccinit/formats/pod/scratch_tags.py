"""Which integrity tags of scratch disks a guest can hold in its memory.

The manifest alone tells how many memory devices they take, and how much memory once every block is
written. How much memory the host gives the guest is only known in UNLOCK (`ccinit.unlock.scratch`).
"""

from collections.abc import Iterable

from ccinit.annotations import Final
from ccinit.errors import FormatError
from ccinit.formats.disk.integrity import count_meta_bytes
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume, Volume, select_kind

RAM_DEVICES: Final = 4
"""As many as stage 0 has brd make (`rd_nr=4`); one for each disk whose tags are in memory."""


def check_tag_devices(volumes: Iterable[Volume]) -> None:
    """Refuse more disks with tags in memory than there are memory devices.

    Raises:
        FormatError: `pod.volume.profile`.
    """
    count = len(_select_in_memory(volumes))
    if count > RAM_DEVICES:
        raise FormatError(
            "pod.volume.profile",
            f"expected at most {RAM_DEVICES} scratch disks with tags in memory, found {count}:"
            ' profile = "aead-disk" keeps them on the disk',
        )


def check_tag_budget(volumes: Iterable[Volume], budget_bytes: int) -> None:
    """Refuse tags that would take more memory than the owner allows.

    Raises:
        FormatError: `pod.volume.size_bytes`.
    """
    needed = sum(count_meta_bytes(volume.size_bytes) for volume in _select_in_memory(volumes))
    if needed > budget_bytes:
        raise FormatError(
            "pod.volume.size_bytes",
            f"expected at most {budget_bytes} bytes of memory (limits.scratch_tags_bytes) for the"
            f" tags of all scratch disks, found {needed}: smaller disks need less, and"
            ' profile = "aead-disk" keeps tags on the disk',
        )


def _select_in_memory(volumes: Iterable[Volume]) -> tuple[ScratchVolume, ...]:
    return tuple(
        volume
        for volume in select_kind(volumes, ScratchVolume)
        if volume.profile is ScratchProfile.AEAD_RAM
    )
