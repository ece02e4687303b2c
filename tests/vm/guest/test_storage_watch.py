"""The kernel's real lines about real faults, as the owner and the manifest's policy get them."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.log_pump import LogPump
from ccinit.agent.storage_watch import WHILE_OPENING, StorageWatch
from ccinit.formats.pod.manifest import OnStorageError
from ccinit.formats.pod.volume import ScratchProfile, VolumeKind
from ccinit.kernel.clock import boottime
from ccinit.kernel.dm import DmControl
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import sleep
from ccinit.unlock.kernel_faults import FaultKind
from ccinit.unlock.verity_volume import activate_verity
from tests.faults.plugin import FaultSeen
from tests.vm.guest.disks import (
    blank,
    disk,
    dm_names,
    drop_caches,
    flip_bit,
    open_scratch,
    open_volume,
    told_of_a_loss,
)
from tests.vm.guest.made_elsewhere import make_verity
from tests.vm.guest.test_disk_faults import faulty, find_block, write_and_sync

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.errors import CcinitError
    from ccinit.formats.pod.manifest import PodManifest

PATIENCE_SECONDS = 60.0
POLICIES = pytest.mark.parametrize("policy", OnStorageError)


class Watched:
    """A guest that has just opened its volume `data`, as far as disk faults go.

    With `is_opening` it has others to open yet; `have_opened` ends that.
    """

    def __init__(
        self, policy: OnStorageError, kind: VolumeKind, *, is_opening: bool = False
    ) -> None:
        self.events: list[str] = []
        self.failures: list[CcinitError] = []
        self.sealed: list[bytes] = []
        parts: Any = SimpleNamespace(
            event=self.events.append,
            give_up=lambda error, _code: self.failures.append(error),
            log=SimpleNamespace(append=lambda _kind, _source, line: self.sealed.append(line)),
        )
        volumes = [SimpleNamespace(name="data", kind=kind)]
        manifest = SimpleNamespace(volumes=volumes, on_storage_error=policy)
        self._guest = cast("Guest", parts)
        self._manifest = cast("PodManifest", manifest)
        self._pump = LogPump(self._guest)
        self._watch(WHILE_OPENING if is_opening else frozenset(FaultKind))
        self.events.clear()

    def have_opened(self) -> None:
        self._watch(frozenset(FaultKind))

    def _watch(self, kinds: frozenset[FaultKind]) -> None:
        self._pump.watch(StorageWatch(self._guest, self._manifest, kinds=kinds))

    def hear(self, patience_seconds: float = 0.0) -> set[str]:
        """Take what the kernel has said since then; return the reasons of the events.

        Args:
            patience_seconds: how long the first event may be under way, if there is to be one.
        """
        loop = EventLoop()

        async def pump() -> None:
            task = loop.start(self._pump.run(), "kernel log")
            end = boottime() + patience_seconds
            while not self.events and boottime() < end:
                await sleep(0.05)
            await sleep(0.2)
            await task.stop()

        loop.run(pump())
        return set(map(reason_of, self.events))


def reason_of(event: str) -> str:
    return event.partition(": ")[0]


def read_fails(path: Path) -> None:
    with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
        path.read_bytes()
    assert error.value.errno == errno.EIO


@POLICIES
def test_r45_block_that_changed_is_an_event_and_ends_the_pod_if_it_shall(
    tmp_path: Path, policy: OnStorageError, fault_seen: FaultSeen
) -> None:
    with faulty() as device, open_scratch(device.disk, tmp_path):
        write_and_sync(tmp_path / "hit", b"h" * 4096)
        drop_caches()
        offset = find_block(device.disk, tmp_path / "hit")
        guest = Watched(policy, VolumeKind.SCRATCH)
        assert (tmp_path / "hit").read_bytes() == b"h" * 4096
        drop_caches()
        flip_bit(device.below, offset)
        read_fails(tmp_path / "hit")
        assert guest.hear(PATIENCE_SECONDS) == {"scratch.integrity"}
    assert any(b"INTEGRITY AEAD ERROR" in line for line in guest.sealed)
    assert bool(guest.failures) == (policy is OnStorageError.STOP)
    fault_seen.guest("scratch.integrity")


def test_r45_disk_that_behaves_is_no_event(tmp_path: Path) -> None:
    with faulty() as device, open_scratch(device.disk, tmp_path):
        guest = Watched(OnStorageError.STOP, VolumeKind.SCRATCH)
        write_and_sync(tmp_path / "file", os.urandom(1 << 20))
        drop_caches()
        assert len((tmp_path / "file").read_bytes()) == 1 << 20
        assert guest.hear() == set()
    assert guest.failures == []


def test_foreign_blocks_before_the_volumes_are_open_are_no_event(tmp_path: Path) -> None:
    """Telling disks apart reads blocks under keys that are not theirs."""
    with faulty() as device, open_scratch(device.disk, tmp_path):
        write_and_sync(tmp_path / "hit", b"h" * 4096)
        drop_caches()
        flip_bit(device.below, find_block(device.disk, tmp_path / "hit"))
        guest = Watched(OnStorageError.STOP, VolumeKind.SCRATCH, is_opening=True)
        read_fails(tmp_path / "hit")
        guest.have_opened()
        assert guest.hear() == set()
    assert any(b"INTEGRITY AEAD ERROR" in line for line in guest.sealed)
    assert guest.failures == []


@pytest.mark.parametrize("profile", ScratchProfile)
def test_r47_write_that_is_lost_is_an_event(
    tmp_path: Path, profile: ScratchProfile, fault_seen: FaultSeen
) -> None:
    with faulty() as device, open_scratch(device.disk, tmp_path, profile):
        guest = Watched(OnStorageError.STOP, VolumeKind.SCRATCH)
        device.fail_writes()
        try:
            with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
                write_and_sync(tmp_path / "lost", b"lost" * 1024)
            assert error.value.errno in (errno.EIO, errno.EROFS)
            assert "scratch.lost_write" in guest.hear(PATIENCE_SECONDS)
        finally:
            device.work()
    assert guest.failures
    fault_seen.guest("scratch.lost_write")


@pytest.mark.parametrize("profile", ScratchProfile)
def test_r47_write_that_is_lost_before_all_volumes_are_open_is_an_event(
    tmp_path: Path, profile: ScratchProfile
) -> None:
    """Nobody waits for it: the kernel writes back what is dirty, when it likes."""
    with faulty() as device, open_scratch(device.disk, tmp_path, profile):
        guest = Watched(OnStorageError.STOP, VolumeKind.SCRATCH, is_opening=True)
        (tmp_path / "lost").write_bytes(b"lost" * 1024)
        device.fail_writes()
        os.sync()
        device.work()
        guest.have_opened()
        assert set(map(reason_of, guest.events)) == {"scratch.lost_write"}
    assert guest.failures


def test_r47_lost_write_of_a_volume_is_an_event(tmp_path: Path, fault_seen: FaultSeen) -> None:
    with (
        faulty() as device,
        told_of_a_loss(),
        open_volume(device.disk, tmp_path, may_create=True),
    ):
        guest = Watched(OnStorageError.REPORT, VolumeKind.PERSISTENT)
        device.fail_writes()
        try:
            with pytest.raises(OSError) as error:  # noqa: PT011  # its number is looked at
                write_and_sync(tmp_path / "lost", b"lost" * 4096)
            assert error.value.errno in (errno.EIO, errno.EROFS)
            assert "volume.lost_write" in guest.hear(PATIENCE_SECONDS)
        finally:
            device.work()
    assert guest.failures == []
    fault_seen.guest("volume.lost_write")


def test_changed_block_of_a_verity_volume_is_an_event(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    parameters = make_verity(disk("odd"), tmp_path)
    flip_bit(disk("odd"), parameters.data_bytes // 2 // 4096 * 4096)
    with DmControl() as control:
        stack = activate_verity(control, "data", disk("odd"), parameters, str(target))
        try:
            guest = Watched(OnStorageError.STOP, VolumeKind.VERITY)
            read_fails(target / "model")
            assert guest.hear(PATIENCE_SECONDS) == {"volume.integrity"}
        finally:
            stack.close()
    assert guest.failures
    assert dm_names() == set()
    blank(disk("odd"))
