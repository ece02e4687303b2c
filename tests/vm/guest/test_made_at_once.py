"""Files that several processes make at once on a disk whose blocks nobody has written yet.

Linux reads a block of the inode table unless the inode that it makes is the only one in use there.
If two processes take inodes of one block, each finds the other's in use, and reads.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ccinit.formats.pod.volume import ScratchProfile
from tests.vm.guest.disks import blank, disk, kernel_errors, open_scratch, open_volume

MAKERS, EACH = 4, 1000


def open_small(target: Path) -> AbstractContextManager[object]:
    return open_scratch(disk("small"), target)


def open_without_tags(target: Path) -> AbstractContextManager[object]:
    """Whose blocks can be read, and whose tables nobody has written."""
    return open_scratch(disk("small"), target, ScratchProfile.CRYPT)


def open_fresh_volume(target: Path) -> AbstractContextManager[object]:
    blank(disk("volume"))
    return open_volume(disk("volume"), target, may_create=True)


@pytest.mark.parametrize("open_disk", [open_small, open_without_tags, open_fresh_volume])
def test_processes_make_files_at_once_on_a_fresh_disk(
    open_disk: Callable[[Path], AbstractContextManager[object]], tmp_path: Path
) -> None:
    with kernel_errors() as errors, open_disk(tmp_path):
        (tmp_path / "below").mkdir()  # what is beside each other here would lie far apart
        statuses = make_at_once(tmp_path / "below")
    assert (statuses, errors) == ([0] * MAKERS, [])


def make_at_once(directory: Path) -> list[int]:
    """Return the exit code of each process, which is the errno of what went wrong."""
    reader, writer = os.pipe()
    makers = []
    for number in range(MAKERS):
        maker = os.fork()
        if maker == 0:
            os.close(writer)
            os.read(reader, 1)  # until all are there
            os._exit(make(f"{directory}/{number}"))
        makers.append(maker)
    os.close(writer)
    os.close(reader)
    return [os.waitstatus_to_exitcode(os.waitpid(maker, 0)[1]) for maker in makers]


def make(folder: str) -> int:
    """Make files in a folder of their own, since Linux makes them one by one within one."""
    try:
        Path(folder).mkdir()
        for number in range(EACH):
            os.close(os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT))
    except OSError as error:
        return error.errno or 1
    return 0
