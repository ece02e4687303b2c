"""Volumes after a power failure: the old state or the new one, and nothing acknowledged is lost.

The writes of one run are logged below the volume, and replayed up to seeded random points as a disk
would hold them that lost its cache there. Every point opens anew, with the product's own code.
"""

import hashlib
import os
import random
from pathlib import Path

import pytest

from ccinit.errors import VerificationError
from ccinit.kernel.block import write_direct
from tests.vm.guest.disks import blank, disk, dm_names, open_volume
from tests.vm.guest.faulty_disk import MIB, FaultyDisk
from tests.vm.guest.write_log import Entry, last_mark, read_log, write_cut

SIZE_BYTES = 48 * MIB
STATES = 40
LOG = "odd"
SEED = 48
CUTS_SHORT, CUTS_LONG = 3, 60


def content(number: int) -> bytes:
    """State `number`: of another size each time, and not to be mixed up with any other."""
    block = hashlib.sha256(b"%d" % number).digest()
    return b"%d\n" % number + block * (64 + 37 * number)


def replace_state(directory: Path, number: int) -> None:
    """Write a state beside the one before, and put it in its place when it is durable."""
    fd = os.open(directory / "new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, content(number))
    os.fsync(fd)
    os.close(fd)
    (directory / "new").rename(directory / "state")
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Entry], int]:
    """All writes from a blank disk to a closed volume, and how many entries its creation took."""
    target = tmp_path_factory.mktemp("logged")
    below = disk("small")
    for offset in range(0, SIZE_BYTES, MIB):
        write_direct(below.node, offset, bytes(MIB))
    blank(disk(LOG))
    with FaultyDisk(below, SIZE_BYTES) as device:
        device.log_writes(disk(LOG))
        with open_volume(device.disk, target, may_create=True):
            replace_state(target, 1)
            device.mark("1")
            for number in range(2, STATES + 1):
                replace_state(target, number)
                device.mark(str(number))
        device.work()
    entries = read_log(disk(LOG).node)
    created = next(index for index, one in enumerate(entries) if last_mark([one]) == 1)
    assert last_mark(entries) == STATES
    return entries, created + 1


def check_cuts(log: tuple[list[Entry], int], target: Path, count: int) -> None:
    entries, created = log
    choose = random.Random(SEED)  # noqa: S311  # repeatable
    with FaultyDisk(disk("small"), SIZE_BYTES) as device:
        for _ in range(count):
            position = choose.randrange(created, len(entries) + 1)
            write_cut(device.disk, disk(LOG).node, entries[:position], choose)
            acknowledged = last_mark(entries[:position])
            with open_volume(device.disk, target):
                found = (target / "state").read_bytes()
                number = int(found.partition(b"\n")[0])
                assert found == content(number), f"mixed at {position}"
                assert acknowledged <= number <= acknowledged + 1, f"lost at {position}"
    assert dm_names() == set()


def test_r48_power_cut_leaves_the_old_state_or_the_new(
    log: tuple[list[Entry], int], tmp_path: Path
) -> None:
    check_cuts(log, tmp_path, CUTS_SHORT)


@pytest.mark.long
@pytest.mark.timeout(800)
def test_r48_many_power_cuts_leave_the_old_state_or_the_new(
    log: tuple[list[Entry], int], tmp_path: Path
) -> None:
    check_cuts(log, tmp_path, CUTS_LONG)


def test_early_cut_has_an_early_state(log: tuple[list[Entry], int], tmp_path: Path) -> None:
    """A control: what the other tests find follows from where they cut."""
    entries, created = log
    choose = random.Random(SEED)  # noqa: S311  # repeatable
    with FaultyDisk(disk("small"), SIZE_BYTES) as device:
        write_cut(device.disk, disk(LOG).node, entries[:created], choose)
        with open_volume(device.disk, tmp_path):
            assert (tmp_path / "state").read_bytes() == content(1)


def test_disk_that_lies_about_flushes_is_noticed(
    log: tuple[list[Entry], int], tmp_path: Path
) -> None:
    """The other control: without the flushes nothing holds, so they are what the tests test."""
    entries, _ = log
    choose = random.Random(SEED)  # noqa: S311  # repeatable
    with FaultyDisk(disk("small"), SIZE_BYTES) as device:
        write_cut(device.disk, disk(LOG).node, entries, choose, is_honest=False)
        with (
            pytest.raises((VerificationError, OSError)),
            open_volume(device.disk, tmp_path),
        ):
            assert (tmp_path / "state").read_bytes() == content(STATES)
