"""Measures scratch inside a guest; `tests.bench.rows.storage` boots it and reads what it prints.

Not collected as a test. Every round does the same with each side in turns: a fresh file system with
the same options on the disk itself and on each profile's device, a file written and synced, and the
file read again with cold caches.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.formats.pod_volume import ScratchProfile
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.dm import DmControl
from ccinit.unlock.filesystem import create_ext4, mount_ext4, unmount
from ccinit.unlock.scratch import ScratchRequest, activate_scratch, plan_scratch
from tests.vm.guest.disks import disk, drop_caches, format_device, run

BARE = "bare"
SIDES = (BARE, *ScratchProfile)
MAX_ROUNDS = 30
FILE_MIB = 32
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
    request = ScratchRequest(
        name="bench", disk=device, target=str(target), profile=ScratchProfile(side)
    )
    (plan,) = plan_scratch([request], budget_bytes=1 << 30)
    with DmControl() as control:
        stack = run(activate_scratch(control, plan, format_device))
        try:
            yield
        finally:
            stack.close()


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


def measure_mount(side: str, target: Path) -> dict[str, float]:
    """Milliseconds from a raw disk of 64 GiB to a mounted file system."""
    began = time.perf_counter()
    with mounted(side, disk("big"), target):
        return {"mount_ms": (time.perf_counter() - began) * 1000}


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
