"""Whether a guest can hold the integrity tags of a pod.toml's scratch disks in memory.

That takes memory devices, and memory. A guest finds out in UNLOCK, when it has all its secrets; the
numbers here are those of `ccinit.unlock.scratch`, as a test checks. How much memory the host will
give the guest cannot be known here.
"""

from collections.abc import Iterator

from ccinit.formats.initdata.guest_config import GuestConfig
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume, select_kind

_RAM_DEVICES = 4
_BLOCK_BYTES, _TAG_BYTES = 4096, 32
_BUFFER_BYTES = 64 * 1024  # the tags take a multiple of this
_BESIDE_BYTES = 136 * 1024  # superblock and the smallest journal


def find_excess_tags(pod: PodManifest, config: GuestConfig | None) -> Iterator[tuple[str, str]]:
    """Yield reason and numbers: `scratch.count`; with a `ccinit.toml`, `scratch.budget`."""
    sizes = [volume.size_bytes for volume in select_kind(pod.volumes, ScratchVolume)
             if volume.profile is ScratchProfile.AEAD_RAM]  # fmt: skip
    if len(sizes) > _RAM_DEVICES:
        said = (
            f"expected at most {_RAM_DEVICES} scratch disks with tags in memory, found {len(sizes)}"
        )
        yield "scratch.count", f'{said}: profile = "aead-disk" keeps them on the disk'
    needed = sum(map(_count_bytes, sizes))
    if config is not None and needed > config.limits.scratch_tags_bytes:
        budget = f"limits.scratch_tags_bytes is {config.limits.scratch_tags_bytes}"
        yield "scratch.budget", f"tags of scratch disks take up to {needed} bytes, {budget}"


def _count_bytes(disk_bytes: int) -> int:
    buffers = -(-disk_bytes // _BLOCK_BYTES * _TAG_BYTES // _BUFFER_BYTES)
    return buffers * _BUFFER_BYTES + _BESIDE_BYTES
