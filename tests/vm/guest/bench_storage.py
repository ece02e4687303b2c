"""Measures scratch inside a guest; `tests.bench.rows.storage` boots it and reads what it prints.

Not collected as a test. Every round does the same with each side in turns: a fresh file system with
the same options on the disk itself and on each profile's device, a file written and synced, and the
file read again with cold caches.
"""

import json
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.formats.pod.volume import ScratchProfile
from ccinit.kernel.block import BlockDevice, write_direct
from ccinit.kernel.dm import DmControl
from ccinit.kernel.mount import unmount
from ccinit.secret import Secret
from ccinit.unlock.filesystem import create_ext4, mount_ext4
from ccinit.unlock.stack import activate_stack
from tests.vm.guest.disks import disk, drop_caches, format_device, open_scratch, plan, run

BARE = "bare"
SIDES = (BARE, *ScratchProfile)
MAX_ROUNDS = 30
FILE_MIB = 32
TAGGED_BYTES = 8 << 30
PIECE = os.urandom(1 << 20)


@contextmanager
def mounted(side: str, device: BlockDevice, target: Path) -> Iterator[None]:
    """The side's file system on `device`."""
    if side == BARE:
        run(create_ext4(device.node, format_device, journal=False))
        mount_ext4(device.node, str(target))
        try:
            yield
        finally:
            unmount(str(target))
        return
    with open_scratch(device, target, ScratchProfile(side)):
        yield


def measure_file(side: str, target: Path) -> dict[str, float]:
    """Milliseconds to write the file and to read it."""
    with mounted(side, disk("small"), target):
        began = time.perf_counter()
        fd = os.open(target / "file", os.O_WRONLY | os.O_CREAT)
        for _ in range(FILE_MIB):
            os.write(fd, PIECE)
        os.fsync(fd)
        os.close(fd)
        written = time.perf_counter()
        drop_caches()
        reading = time.perf_counter()
        fd = os.open(target / "file", os.O_RDONLY)
        while os.read(fd, 1 << 20):
            pass
        os.close(fd)
        read = time.perf_counter()
    return {"write_ms": (written - began) * 1000, "read_ms": (read - reading) * 1000}


def measure_tags(side: str, target: Path) -> dict[str, float]:
    """Mebibytes of guest memory for the tags of 8 GiB, some of each page of them written.

    One page of tags is for 512 KiB, and is taken when the first of its blocks is written: so this
    is what it would be, were all of it written.
    """
    device = disk("big")
    layout = plan(device, ScratchProfile(side)).layout
    assert layout is not None
    with DmControl() as control, Secret(os.urandom(96)) as key:
        write_direct((layout.meta_device or device).node, 0, bytes(4096))
        stack = activate_stack(control, "bench", device, layout, key)
        try:
            before = available_bytes()
            fd = os.open(stack.node, os.O_WRONLY | os.O_DIRECT)
            with mmap.mmap(-1, 4096) as block:
                for offset in range(0, TAGGED_BYTES, 512 << 10):
                    os.pwrite(fd, block, offset)
            os.close(fd)
            return {"tags_mib": (before - available_bytes()) / (1 << 20)}
        finally:
            stack.close()


def available_bytes() -> int:
    """Memory that is free once caches are given back."""
    drop_caches()
    lines = Path("/proc/meminfo").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def measure_mount(side: str, target: Path) -> dict[str, float]:
    """Milliseconds from a raw disk of 64 GiB to a mounted file system."""
    began = time.perf_counter()
    with mounted(side, disk("big"), target):
        return {"mount_ms": (time.perf_counter() - began) * 1000}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", range(1, MAX_ROUNDS + 1))
def test_measure_scratch(tmp_path: Path, rounds: int) -> None:
    """Print one JSON object: for each side a list of rounds, the warm-up left out."""
    seen: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        for side in SIDES:
            values = measure_mount(side, tmp_path) | measure_file(side, tmp_path)
            if number:
                seen[side].append(values)
    print(json.dumps(seen))


@pytest.mark.timeout(600)
def test_measure_tags(tmp_path: Path) -> None:
    """Print one JSON object: for each side with tags a list of one round."""
    sides = (ScratchProfile.AEAD_RAM, ScratchProfile.AEAD_DISK)
    print(json.dumps({side: [measure_tags(side, tmp_path)] for side in sides}))
