"""A disk fault becomes an event with the volume's name, and the pod's end if it shall."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.storage_watch import WHILE_OPENING, StorageWatch
from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.pod.manifest import OnStorageError, PodManifest
from ccinit.formats.pod.volume import VolumeKind
from ccinit.init.stage0 import ROOT_DEVICE_NAME
from ccinit.kernel.kmsg import KernelRecord
from ccinit.unlock.kernel_faults import FaultKind

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

NAMES = {
    "dm-1": "ccinit-scratch",
    "dm-0": "ccinit-scratch.integrity",
    "dm-3": "ccinit-data",
    "254:16": "ccinit-model",
    "254:0": ROOT_DEVICE_NAME,
    "dm-6": "ccinit-root",
    "dm-7": "ccinit-scratch-integrity",
}
KNOWN = {"dm-3": "ccinit-other", "dm-5": "ccinit-data"}
"""What there was at the beginning: of these, one has gone and one is another by now."""
KINDS = {
    "scratch": VolumeKind.SCRATCH,
    "data": VolumeKind.PERSISTENT,
    "model": VolumeKind.VERITY,
    "root": VolumeKind.PERSISTENT,
    "scratch-integrity": VolumeKind.PERSISTENT,
}


def record(text: str, dropped: int = 0) -> KernelRecord:
    return KernelRecord(priority=3, sequence=7, boottime_us=1, text=text.encode(), dropped=dropped)


def aead(device: str) -> KernelRecord:
    return record(f"device-mapper: crypt: {device}: INTEGRITY AEAD ERROR, sector 8")


def watch(
    policy: OnStorageError,
    *records: KernelRecord,
    kinds: frozenset[FaultKind] = frozenset(FaultKind),
) -> tuple[list[str], list[CcinitError]]:
    events: list[str] = []
    failures: list[CcinitError] = []

    def give_up(error: CcinitError, code: Code) -> None:
        assert code is Code.STORAGE
        failures.append(error)

    guest = SimpleNamespace(event=events.append, give_up=give_up)
    volumes = [SimpleNamespace(name=name, kind=kind) for name, kind in KINDS.items()]
    manifest = SimpleNamespace(volumes=volumes, on_storage_error=policy)
    made = StorageWatch(
        cast("Guest", guest),
        cast("PodManifest", manifest),
        lambda one: NAMES.get(one, one),
        KNOWN,
        kinds,
    )
    for one in records:
        made.examine(one)
    return events, failures


@pytest.mark.parametrize(
    ("seen", "reason", "volume"),
    [
        (aead("dm-1"), "scratch.integrity", "scratch"),
        (aead("dm-0"), "scratch.integrity", "scratch"),
        (aead("dm-3"), "volume.integrity", "data"),
        (record("device-mapper: verity: 254:16: data block 5 is corrupted"), "volume.integrity",
         "model"),
        (record("Buffer I/O error on dev dm-1, logical block 1, lost async page write"),
         "scratch.lost_write", "scratch"),
        (record("EXT4-fs warning (device dm-3): ext4_end_bio:343: I/O error 10 writing to inode"),
         "volume.lost_write", "data"),
        (record("device-mapper: verity: 254:0: data block 5 is corrupted"), "disk.integrity",
         "ccinit.root"),
        (aead("dm-6"), "volume.integrity", "root"),
        (aead("dm-7"), "volume.integrity", "scratch-integrity"),
        (record("Buffer I/O error on dev dm-5, logical block 0, lost sync page write"),
         "volume.lost_write", "data"),
        (aead("dm-9"), "disk.integrity", "dm-9"),
    ],
)  # fmt: skip
def test_fault_is_an_event_and_ends_the_pod_only_if_it_shall(
    seen: KernelRecord, reason: str, volume: str
) -> None:
    expected = f"{reason}: {volume}: {seen.text.decode()}"
    assert watch(OnStorageError.REPORT, seen) == ([expected], [])
    events, (failure,) = watch(OnStorageError.STOP, seen)
    assert (events, failure.reason) == ([expected], reason)


def test_other_lines_do_nothing() -> None:
    for policy in OnStorageError:
        assert watch(policy, record("EXT4-fs (dm-3): mounted filesystem")) == ([], [])


def test_lines_that_were_lost_count_as_a_fault_where_one_would_end_the_pod() -> None:
    lost = record("anything", dropped=3)
    assert watch(OnStorageError.REPORT, lost) == ([], [])
    events, (failure,) = watch(OnStorageError.STOP, lost)
    assert (len(events), failure.reason) == (1, "disk.log_gap")


def test_only_a_lost_write_is_a_fault_before_all_volumes_are_open() -> None:
    lost = record("Buffer I/O error on dev dm-1, logical block 1, lost async page write")
    events, (failure,) = watch(OnStorageError.STOP, aead("dm-3"), lost, kinds=WHILE_OPENING)
    assert (len(events), failure.reason) == (1, "scratch.lost_write")
