"""Which disk is the volume, which may become it, and what is never touched."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ccinit.errors import CcinitError, KernelError, VerificationError
from ccinit.formats.disk.ext4 import Ext4Superblock
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.event_loop import EventLoop
from ccinit.secret import Secret
from ccinit.unlock import disk as disk_module
from ccinit.unlock import volume as module
from ccinit.unlock.filesystem import START_BYTES
from ccinit.unlock.integrity import IntegrityLayout, plan_disk_layout
from ccinit.unlock.volume import (
    JOURNAL_BYTES,
    DiskContent,
    VolumeRequest,
    activate_volume,
    examine_disk,
    select_volume_disk,
)
from ccinit.unlock.volume_key import derive_encryption_key
from ccinit.values import replace

SIZE, FORMER = 96 << 20, 64 << 20
RELEASED, OTHER = Secret(bytes(range(128, 192))), Secret(bytes(range(192, 256)))
BLANK = b""
FOREIGN = b"\xeb\x3c\x90"


def volume_of(size_bytes: int = SIZE) -> bytes:
    """What a disk of that size begins with once it is a volume."""
    return plan_disk_layout(size_bytes, JOURNAL_BYTES).to_superblock()


def request(name: str = "vdb", **changes: object) -> VolumeRequest:
    disk = BlockDevice(
        name=name, number="254:16", size_bytes=SIZE, read_only=False, serial="", holders=()
    )
    made = VolumeRequest(pod="shop", name="data", disk=disk, may_create=False)
    return replace(made, **changes)


class Stack:
    """What stands on a disk."""

    def __init__(self, world: "World", disk: BlockDevice) -> None:
        self.node = f"/dev/mapper/{disk.name}"
        self._world = world

    def push(self, _undo: object) -> None:
        self._world.steps.append("ready")

    def close(self) -> None:
        self._world.steps.append("close")


class World:
    """Disks by their first bytes, with a kernel that keeps tags.

    Attributes:
        steps: what was done to any disk, in order.
        key: of the volumes that there are.
        load_error: of the kernel, at the next activation.
        failing: node of a disk whose blocks cannot be read once it is open.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.steps: list[str] = []
        self.load_error: CcinitError | None = None
        self.failing = ""
        self.mount_error: CcinitError | None = None
        self.grows = True
        self.former_blocks: tuple[int, ...] = ()
        with derive_encryption_key(RELEASED, "shop", "data") as key:
            self.key = key.reveal()
        self._opens = False
        monkeypatch.setattr(disk_module, "read_size_bytes", self.read_size_bytes)
        for name in ("read_direct", "activate_stack", "create_ext4"):
            monkeypatch.setattr(module, name, getattr(self, name))
        for name in ("mount_volume", "verify_can_grow", "shortened"):
            monkeypatch.setattr(module, name, getattr(self, name))
        monkeypatch.setattr(module, "parse_ext4_superblock", lambda _start: "superblock")

    def disk(self, start: bytes, name: str = "vdb") -> None:
        self.starts[f"/dev/{name}"] = start

    def read_size_bytes(self, node: str) -> int:
        return self.sizes.get(node, SIZE)

    def read_direct(self, node: str, offset: int, length: int) -> bytes:
        assert (offset, length) == (0, START_BYTES)
        if node == self.failing:
            raise KernelError(errno.EIO, "block.read", node)
        if node.startswith("/dev/mapper/") and not self._opens:
            raise KernelError(errno.EILSEQ, "pread", node)
        return self.starts.get(node, b"").ljust(length, b"\0")

    def activate_stack(
        self, _control: object, name: str, disk: BlockDevice, layout: IntegrityLayout, key: Secret
    ) -> Stack:
        assert name == "data"
        assert layout == plan_disk_layout(disk.size_bytes, JOURNAL_BYTES)
        self.steps.append(f"activate {disk.name} {disk.size_bytes >> 20}")
        if self.load_error is not None:
            raise self.load_error
        self._opens = key.reveal() == self.key
        return Stack(self, disk)

    @contextmanager
    def shortened(
        self, _control: object, _name: str, disk: BlockDevice, size_bytes: int
    ) -> Iterator[BlockDevice]:
        yield replace(disk, size_bytes=size_bytes)

    async def create_ext4(self, node: str, _format: object, *, journal: bool) -> None:
        assert journal
        self.steps.append(f"create {node}")

    async def mount_volume(
        self, name: str, node: str, target: str, former_blocks: tuple[int, ...]
    ) -> None:
        assert (name, target) == ("data", "/data")
        if self.mount_error is not None:
            raise self.mount_error
        self.former_blocks = former_blocks
        self.steps.append(f"mount {node}")

    def verify_can_grow(self, _name: str, _found: Ext4Superblock) -> None:
        self.steps.append("may it grow")
        if not self.grows:
            raise VerificationError("volume.growth", "no room")

    def examine(self, asked: VolumeRequest, released: Secret = RELEASED) -> DiskContent:
        unused: Any = None
        return examine_disk(unused, asked, released)

    def select(self, *names: str, **changes: object) -> str:
        unused: Any = None
        requests = [request(name, **changes) for name in names]
        return select_volume_disk(unused, requests, RELEASED).disk.name

    def activate(self, asked: VolumeRequest, released: Secret = RELEASED) -> None:
        unused: Any = None
        EventLoop().run(activate_volume(unused, asked, released, "/data", unused))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def reason_of(action: Any, *arguments: object, **keywords: object) -> str:
    with pytest.raises(CcinitError) as refused:
        action(*arguments, **keywords)
    return refused.value.reason


OPENED = ["activate vdb 96", "close"]


def test_volume_authenticates_under_its_key_and_no_other(world: World) -> None:
    world.disk(volume_of())
    assert world.examine(request()) is DiskContent.VOLUME
    assert reason_of(world.examine, request(), OTHER) == "volume.unlock"
    assert reason_of(world.examine, request(pod="bank")) == "volume.unlock"
    assert world.steps == OPENED * 3


def test_blank_disk_may_become_the_volume_under_the_grant_only(world: World) -> None:
    world.disk(BLANK)
    assert world.examine(request(may_create=True)) is DiskContent.BLANK
    assert reason_of(world.examine, request()) == "volume.blank"
    assert world.steps == []


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(FOREIGN, id="foreign"),
        pytest.param(bytes(START_BYTES - 1) + b"x", id="cut-off-creation"),
        pytest.param(volume_of(FORMER), id="of-another-size"),
        pytest.param(volume_of()[:-1] + b"x", id="padding"),
    ],
)
@pytest.mark.parametrize("may_create", [False, True])
def test_anything_else_is_refused_unopened_whatever_the_grant(
    world: World,
    start: bytes,
    may_create: bool,  # noqa: FBT001
) -> None:
    world.disk(start)
    asked = request(may_create=may_create)
    assert reason_of(world.examine, asked) == "volume.unlock"
    assert reason_of(world.activate, asked) == "volume.unlock"
    assert world.steps == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KernelError(errno.EINVAL, "dm.load", "data"), "volume.unlock"),
        (KernelError(errno.EIO, "dm.load", "data"), "kernel.dm.load"),
        (VerificationError("integrity.table", "another"), "integrity.table"),
        (KernelError(errno.ENOMEM, "dm.load", "data"), "kernel.dm.load"),
        (KernelError(errno.EINVAL, "dm.create", "data"), "kernel.dm.create"),
    ],
)
def test_kernel_that_cannot_is_told_from_a_disk_that_is_wrong(
    world: World, error: CcinitError, reason: str
) -> None:
    world.disk(volume_of())
    world.load_error = error
    assert reason_of(world.examine, request()) == reason
    assert reason_of(world.activate, request()) == reason


@pytest.mark.parametrize("asked", ["examine", "activate"])
def test_disk_that_cannot_be_written_or_has_changed_is_refused_unread(
    world: World, asked: str
) -> None:
    world.disk(volume_of())
    locked = replace(request().disk, read_only=True)
    assert reason_of(getattr(world, asked), request(disk=locked)) == "disk.read_only"
    world.sizes["/dev/vdb"] = SIZE - 4096
    assert reason_of(getattr(world, asked), request()) == "disk.changed"
    assert world.steps == []


def test_disk_that_authenticates_is_the_volume_wherever_it_stands(world: World) -> None:
    world.disk(FOREIGN, "vdb")
    world.disk(volume_of(), "vdc")
    world.disk(BLANK, "vdd")
    assert world.select("vdb", "vdc", "vdd", may_create=True) == "vdc"
    assert world.select("vdb", "vdc", "vdd") == "vdc"


def test_blank_disk_is_taken_only_if_no_disk_is_the_volume(world: World) -> None:
    world.disk(FOREIGN, "vdb")
    world.disk(BLANK, "vdc")
    assert world.select("vdb", "vdc", may_create=True) == "vdc"
    assert reason_of(world.select, "vdb", "vdc") == "volume.blank"
    assert reason_of(world.select, "vdc", "vdb") == "volume.unlock"


def test_of_blank_disks_the_first_is_taken(world: World) -> None:
    """Two volumes of one size that are made in one boot, or one beside a scratch disk, have two."""
    world.disk(FOREIGN, "vdb")
    for name in ("vdc", "vdd"):
        world.disk(BLANK, name)
    assert world.select("vdb", "vdc", "vdd", may_create=True) == "vdc"
    assert reason_of(world.select, "vdc", "vdd") == "volume.blank"


def test_two_disks_that_are_the_volume_are_refused(world: World) -> None:
    for name in ("vdb", "vdc"):
        world.disk(volume_of(), name)
    assert reason_of(world.select, "vdb", "vdc", may_create=True) == "volume.ambiguous"
    assert world.select("vdb", may_create=True) == "vdb"


def test_fault_while_looking_ends_the_search(world: World) -> None:
    world.disk(volume_of(), "vdc")
    world.sizes["/dev/vdb"] = SIZE - 4096
    assert reason_of(world.select, "vdb", "vdc") == "disk.changed"
    assert world.select("vdc") == "vdc"


@pytest.mark.parametrize("order", [("vdb", "vdc"), ("vdc", "vdb")])
def test_disk_that_fails_is_not_taken_for_another_one(world: World, order: tuple[str, str]) -> None:
    """Else a blank disk would become the volume, and the volume could become scratch."""
    world.disk(volume_of(), "vdb")
    world.disk(BLANK, "vdc")
    assert world.select(*order, may_create=True) == "vdb"
    world.failing = "/dev/mapper/vdb"
    assert reason_of(world.select, *order, may_create=True) == "kernel.block.read"
    assert reason_of(world.activate, request(may_create=True)) == "kernel.block.read"
    assert world.steps[-2:] == OPENED
    assert [step for step in world.steps if "create" in step] == []


def test_volume_is_opened_and_never_formatted(world: World) -> None:
    world.disk(volume_of())
    world.activate(request(may_create=True))
    assert world.steps == ["activate vdb 96", "mount /dev/mapper/vdb", "ready"]


def test_blank_disk_is_formatted_before_it_is_mounted(world: World) -> None:
    world.disk(BLANK)
    assert reason_of(world.activate, request()) == "volume.blank"
    assert world.steps == []
    world.activate(request(may_create=True))
    assert world.steps == [
        "activate vdb 96",
        "create /dev/mapper/vdb",
        "mount /dev/mapper/vdb",
        "ready",
    ]


def test_volume_under_another_key_is_closed_unmounted(world: World) -> None:
    world.disk(volume_of())
    assert reason_of(world.activate, request(may_create=True), OTHER) == "volume.unlock"
    assert world.steps == OPENED


def test_volume_that_cannot_be_mounted_is_closed(world: World) -> None:
    world.disk(volume_of())
    world.mount_error = VerificationError("volume.size", "another size")
    assert reason_of(world.activate, request()) == "volume.size"
    assert world.steps == OPENED


def test_volume_of_a_named_former_size_is_looked_at_in_that_size_first(world: World) -> None:
    world.disk(volume_of(FORMER))
    asked = request(former_bytes=(32 << 20, FORMER))
    assert world.examine(asked)
    assert world.steps == ["activate vdb 64", "close"]
    world.steps.clear()
    world.activate(asked)
    assert world.steps == [
        *("activate vdb 64", "close", "may it grow"),
        *("activate vdb 96", "mount /dev/mapper/vdb", "ready"),
    ]
    provided = [plan_disk_layout(size, JOURNAL_BYTES).provided_bytes for size in asked.former_bytes]
    assert world.former_blocks == tuple(size // 4096 for size in provided)


def test_former_volume_that_cannot_grow_or_is_not_ours_stays_as_it_is(world: World) -> None:
    world.disk(volume_of(FORMER))
    asked = request(former_bytes=(FORMER,))
    world.grows = False
    assert reason_of(world.activate, asked) == "volume.growth"
    assert reason_of(world.activate, asked, OTHER) == "volume.unlock"
    assert [step for step in world.steps if "96" in step or "mount" in step] == []
