from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.errors import CcinitError, ConfigError, KernelError
from ccinit.formats.disk.integrity import SUPERBLOCK_BYTES, count_meta_bytes
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.event_loop import EventLoop
from ccinit.secret import Secret
from ccinit.unlock import disk as disk_module
from ccinit.unlock import profile as profiles
from ccinit.unlock import scratch as module
from ccinit.unlock.integrity import MetaDevice
from ccinit.unlock.profile import AEAD
from ccinit.unlock.scratch import ScratchPlan, activate_scratch, plan_scratch, verify_memory
from ccinit.values import replace

GIB = 1 << 30
DISK = BlockDevice(
    name="vdb", number="254:16", size_bytes=32 * GIB, read_only=False, serial="", holders=()
)
IN_MEMORY = ScratchVolume(name="data", size_bytes=32 * GIB, profile=ScratchProfile.AEAD_RAM)
ON_DISK = replace(IN_MEMORY, profile=ScratchProfile.AEAD_DISK)
CRYPT = replace(IN_MEMORY, profile=ScratchProfile.CRYPT)
NEEDED_BYTES = count_meta_bytes(32 * GIB)


def plan(*volumes: ScratchVolume, disk: BlockDevice = DISK) -> tuple[ScratchPlan, ...]:
    return plan_scratch([(volume, disk) for volume in volumes])


def test_scratch_within_its_budget_is_planned() -> None:
    (planned,) = plan(IN_MEMORY)
    assert planned.layout is not None
    assert planned.layout.meta_device == MetaDevice(node="/dev/ram0", number="1:0")
    assert planned.meta_bytes == NEEDED_BYTES
    assert planned.layout.provided_bytes == 32 * GIB
    assert planned.layout.mode == "D"


def test_each_scratch_disk_has_a_memory_device_of_its_own() -> None:
    devices = [one.layout.meta_device for one in plan(*[IN_MEMORY] * 4) if one.layout]
    assert devices == [
        MetaDevice(node=f"/dev/ram{index}", number=f"1:{index}") for index in range(4)
    ]


def test_scratch_with_tags_on_its_disk_takes_no_memory_and_no_journal() -> None:
    ours, theirs = plan(ON_DISK, IN_MEMORY)
    assert ours.meta_bytes == 0
    assert ours.layout is not None
    assert ours.layout.meta_device is None
    assert ours.layout.mode == "D"
    assert ours.layout.provided_bytes < 32 * GIB
    assert theirs.layout is not None
    assert theirs.layout.meta_device == MetaDevice(node="/dev/ram0", number="1:0")


def test_scratch_without_tags_has_no_layout() -> None:
    (planned,) = plan(CRYPT)
    assert (planned.layout, planned.meta_bytes) == (None, 0)


def test_only_tags_in_memory_count_against_the_memory_devices() -> None:
    assert len(plan(*[IN_MEMORY] * 4, ON_DISK, CRYPT)) == 6


def test_tags_may_take_half_of_the_memory_that_is_free_and_no_more() -> None:
    plans = plan(IN_MEMORY, ON_DISK)
    verify_memory(plans, 2 * NEEDED_BYTES)
    with pytest.raises(ConfigError) as error:
        verify_memory(plans, 2 * NEEDED_BYTES - 2)
    assert error.value.reason == "scratch.memory"


class Disks:
    """Disks that keep what is written to them, and a device-mapper that writes down its steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.keys: list[bytes] = []
        self.size_bytes = DISK.size_bytes
        self.keeps = True
        self.mount_failure: KernelError | None = None
        self._written: dict[str, bytes] = {}
        monkeypatch.setattr(disk_module, "read_size_bytes", self.read_size_bytes)
        for name in ("read_direct", "write_direct", "create_ext4"):
            monkeypatch.setattr(module, name, getattr(self, name))
        for name in ("activate_stack", "activate_crypt", "mount_ext4"):
            monkeypatch.setattr(module, name, getattr(self, name))

    def read_size_bytes(self, node: str) -> int:
        assert node == DISK.node
        return self.size_bytes

    def write_direct(self, node: str, offset: int, data: bytes) -> None:
        assert (offset, data) == (0, bytes(SUPERBLOCK_BYTES))
        self.steps.append(f"clear {node}")
        self._written[node] = data if self.keeps else b"integrt".ljust(len(data), b"\0")

    def read_direct(self, node: str, offset: int, length: int) -> bytes:
        return self._written[node][offset : offset + length]

    def activate_stack(
        self, _control: object, name: str, disk: BlockDevice, layout: object, key: Secret
    ) -> object:
        assert (name, disk) == ("data", DISK)
        assert layout is not None
        return self._stack("aead", key, AEAD.key_bytes)

    def activate_crypt(self, _control: object, name: str, disk: BlockDevice, key: Secret) -> object:
        assert (name, disk) == ("data", DISK)
        return self._stack("crypt", key, profiles.CRYPT.key_bytes)

    def _stack(self, kind: str, key: Secret, length: int) -> object:
        assert len(key) == length
        self.steps.append(kind)
        self.keys.append(key.reveal())
        self.used = key
        return SimpleNamespace(
            node="/dev/mapper/data",
            push=lambda _undo: self.steps.append("ready"),
            close=lambda: self.steps.append("close"),
        )

    async def create_ext4(self, node: str, _format: object, *, journal: bool, tables: bool) -> None:
        assert not journal
        self.steps.append(f"create {node}{' with tables' if tables else ''}")

    def mount_ext4(self, node: str, target: str) -> None:
        if self.mount_failure is not None:
            raise self.mount_failure
        self.steps.append(f"mount {node} {target}")

    def activate(self, volume: ScratchVolume = IN_MEMORY, disk: BlockDevice = DISK) -> None:
        (planned,) = plan(volume, disk=disk)
        unused: Any = None
        EventLoop().run(activate_scratch(unused, planned, "/run/scratch/data", unused))

    def refusal(self, volume: ScratchVolume = IN_MEMORY, disk: BlockDevice = DISK) -> str:
        with pytest.raises(CcinitError) as refused:
            self.activate(volume, disk)
        return refused.value.reason


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(monkeypatch)


MADE = ["mount /dev/mapper/data /run/scratch/data", "ready"]
PLAIN = "create /dev/mapper/data"
WITH_TABLES = "create /dev/mapper/data with tables"


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        pytest.param(IN_MEMORY, ["clear /dev/ram0", "aead", WITH_TABLES], id="tags-in-memory"),
        pytest.param(ON_DISK, ["clear /dev/vdb", "aead", WITH_TABLES], id="tags-on-disk"),
        pytest.param(CRYPT, ["crypt", PLAIN], id="no-tags"),
    ],
)
def test_scratch_is_formatted_anew_under_a_key_that_nobody_else_has(
    disks: Disks, asked: ScratchVolume, steps: list[str]
) -> None:
    for _ in range(2):
        disks.steps.clear()
        disks.activate(asked)
        assert disks.steps == steps + MADE
        assert len(disks.used) == 0
    assert disks.keys[0] != disks.keys[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"read_only": True}, "disk.read_only"), ({"size_bytes": GIB + 512}, "disk.size")],
)
@pytest.mark.parametrize("asked", [IN_MEMORY, ON_DISK, CRYPT])
def test_r36_disk_that_cannot_hold_scratch_is_refused_untouched(
    disks: Disks, asked: ScratchVolume, changes: dict[str, object], reason: str
) -> None:
    assert disks.refusal(asked, replace(DISK, **changes)) == reason
    assert disks.steps == []


def test_disk_that_has_changed_its_size_is_refused_untouched(disks: Disks) -> None:
    disks.size_bytes -= 4096
    assert disks.refusal() == "disk.changed"
    assert disks.steps == []


def test_disk_that_keeps_an_old_superblock_is_refused_without_a_key(disks: Disks) -> None:
    disks.keeps = False
    assert disks.refusal(ON_DISK) == "scratch.superblock"
    assert (disks.steps, disks.keys) == (["clear /dev/vdb"], [])


def test_scratch_that_cannot_be_mounted_is_closed(disks: Disks) -> None:
    disks.mount_failure = KernelError(5, "mount", "data")
    assert disks.refusal() == "kernel.mount"
    assert disks.steps[-1] == "close"
