"""In which order a volume's file system is looked at, prepared, grown and mounted."""

from collections.abc import Sequence

import pytest

from ccinit.errors import VerificationError
from ccinit.formats.disk.ext4 import GROUP_BLOCKS, Ext4Superblock
from ccinit.formats.disk.integrity import BLOCK_BYTES
from ccinit.kernel.event_loop import EventLoop
from ccinit.unlock import growth
from ccinit.unlock.growth import Growth, mount_volume

OLD, NEW = GROUP_BLOCKS, 20 * GROUP_BLOCKS
PLANNED = Growth(old_blocks=OLD, new_blocks=NEW)
MOUNT, UNMOUNT = ("mount", "/dev/dm-0", "/data"), ("unmount", "/data")


class Kernel:
    """Notes what is asked of it; the call `refused` fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks = OLD
        self.refused = ""
        self.calls: list[tuple[object, ...]] = []
        monkeypatch.setattr(growth, "mount_ext4", lambda *what: self.call("mount", *what))
        monkeypatch.setattr(growth, "unmount", lambda target: self.call("unmount", target))
        monkeypatch.setattr(growth, "read_size_bytes", lambda _node: NEW * BLOCK_BYTES)
        monkeypatch.setattr(growth, "read_superblock", lambda _node: self.superblock())
        monkeypatch.setattr(growth, "zero_direct", self.zero_direct)
        monkeypatch.setattr(growth, "resize_ext4", lambda *what: self.call("resize", *what))

    def call(self, name: str, *what: object) -> None:
        self.calls.append((name, *what))
        if name == self.refused:
            raise VerificationError("kernel.refused", name)

    def zero_direct(self, node: str, extents: Sequence[tuple[int, int]]) -> None:
        self.call("zero", node, tuple(extents))

    def superblock(self) -> Ext4Superblock:
        return Ext4Superblock(block_count=self.blocks, can_grow=True, has_errors=False)

    def mount(self) -> None:
        EventLoop().run(mount_volume("data", "/dev/dm-0", "/data", (OLD,)))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_file_system_is_prepared_unmounted_and_grown_mounted(kernel: Kernel) -> None:
    kernel.mount()
    zeros = [("zero", "/dev/dm-0", extents) for extents in PLANNED.unwritten()]
    steps = [("resize", "/data", blocks) for blocks in PLANNED.steps()]
    assert len(zeros) == len(steps) == 2
    assert kernel.calls == [MOUNT, UNMOUNT, *zeros, MOUNT, *steps]


def test_file_system_that_need_not_grow_stays_mounted(kernel: Kernel) -> None:
    kernel.blocks = NEW
    kernel.mount()
    assert kernel.calls == [MOUNT]


def test_file_system_of_another_size_is_not_left_mounted(kernel: Kernel) -> None:
    kernel.blocks = OLD - 1
    with pytest.raises(VerificationError, match=r"volume\.size"):
        kernel.mount()
    assert kernel.calls == [MOUNT, UNMOUNT]


@pytest.mark.parametrize(("refused", "mounts"), [("zero", 1), ("resize", 2)])
def test_growth_that_the_kernel_refuses_leaves_nothing_mounted(
    kernel: Kernel, refused: str, mounts: int
) -> None:
    kernel.refused = refused
    with pytest.raises(VerificationError, match=r"kernel\.refused"):
        kernel.mount()
    assert kernel.calls.count(MOUNT) == kernel.calls.count(UNMOUNT) == mounts


def test_each_step_prepares_only_its_own_groups() -> None:
    """What an earlier step has grown may hold data by then."""
    first, second = PLANNED.unwritten()
    end, _ = PLANNED.steps()
    assert max(offset + size for offset, size in first) == end * BLOCK_BYTES
    assert min(offset for offset, _size in second) >= end * BLOCK_BYTES
