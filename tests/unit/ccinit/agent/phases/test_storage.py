"""What UNLOCK says of scratch disks to the phases behind it."""

from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases import storage
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.event_loop import EventLoop
from ccinit.unlock.integrity import count_meta_bytes

GIB = 1 << 30
SCRATCH = (
    (ScratchProfile.AEAD_RAM, 8 * GIB),
    (ScratchProfile.AEAD_RAM, GIB),
    (ScratchProfile.AEAD_DISK, GIB),
    (ScratchProfile.CRYPT, GIB),
)


def disk(size_bytes: int) -> BlockDevice:
    return BlockDevice(
        name="vdb", number="254:16", size_bytes=size_bytes, read_only=False, serial="", holders=()
    )


def test_tags_are_counted_as_if_all_of_their_disks_were_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def activate(*_: object) -> None:
        return None

    monkeypatch.setattr(storage, "activate_scratch", activate)
    monkeypatch.setattr(storage, "read_memory", lambda: {"MemAvailable": GIB})
    monkeypatch.setattr(storage, "_make_directory", lambda path, _mode: path)
    monkeypatch.setattr(storage._Unlocking, "_keep", lambda *_: None)
    limits = SimpleNamespace(scratch_tags_bytes=257 << 20)
    configured: Any = SimpleNamespace(
        config=SimpleNamespace(limits=limits),
        manifest=SimpleNamespace(volume=lambda _name: None),
    )
    disks = tuple(
        (ScratchVolume(name=f"v{number}", size_bytes=size, profile=profile), disk(size))
        for number, (profile, size) in enumerate(SCRATCH)
    )
    unused: Any = None
    opening = storage._Unlocking(unused, configured, unused, unused).open_scratch(disks)
    assert EventLoop().run(opening) == count_meta_bytes(8 * GIB) + count_meta_bytes(GIB)
