"""Lines of the kernel's log about disks: those of Linux 6.12, and what only looks like them."""

import pytest

from ccinit.unlock.kernel_faults import DiskFault, FaultKind, parse_disk_fault

INTEGRITY, LOST = FaultKind.INTEGRITY, FaultKind.LOST_WRITE


@pytest.mark.parametrize(
    ("text", "kind", "device"),
    [
        (b"device-mapper: crypt: dm-1: INTEGRITY AEAD ERROR, sector 65536", INTEGRITY, "dm-1"),
        (
            b"trusted_key: device-mapper: crypt: dm-1: INTEGRITY AEAD ERROR, sector 8464",
            INTEGRITY,
            "dm-1",
        ),
        (b"device-mapper: verity: 254:16: data block 5 is corrupted", INTEGRITY, "254:16"),
        (b"device-mapper: verity: 254:16: metadata block 2 is corrupted", INTEGRITY, "254:16"),
        (
            b"Buffer I/O error on dev dm-3, logical block 17, lost async page write",
            LOST,
            "dm-3",
        ),
        (b"Buffer I/O error on dev dm-3, logical block 0, lost sync page write", LOST, "dm-3"),
        (
            b"EXT4-fs warning (device dm-3): ext4_end_bio:343: I/O error 10 writing to inode 1",
            LOST,
            "dm-3",
        ),
        (
            b"EXT4-fs error (device dm-3): ext4_wait_block_bitmap:582: comm main: Cannot read",
            LOST,
            "dm-3",
        ),
        (b"EXT4-fs error (device dm-3) in ext4_dirty_inode:6080: IO failure", LOST, "dm-3"),
        (
            b"EXT4-fs (dm-3): failed to convert unwritten extents to written extents -- potential",
            LOST,
            "dm-3",
        ),
        (
            b"EXT4-fs (dm-3): Delayed block allocation failed for inode 12 at logical offset 0",
            LOST,
            "dm-3",
        ),
        (
            b"device-mapper: crypt: dm-1: INTEGRITY AEAD ERROR, sector 8\n SUBSYSTEM=block",
            INTEGRITY,
            "dm-1",
        ),
        (
            b"device-mapper: crypt: " + b"d" * 32 + b": INTEGRITY AEAD ERROR, sector 8",
            INTEGRITY,
            "d" * 32,
        ),
    ],
)
def test_line_about_a_fault_names_its_device(text: bytes, kind: FaultKind, device: str) -> None:
    assert parse_disk_fault(text) == DiskFault(kind=kind, device=device)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"device-mapper: crypt: xts(aes) using implementation xts-aes-aesni",
        b"Buffer I/O error on dev dm-3, logical block 17, async page read",
        b"EXT4-fs (dm-3): mounted filesystem with ordered data mode",
        b"EXT4-fs error (device dm-3)",
        b"EXT4-fs (dm-3): Remounting filesystem read-only",
        b"main[7]: device-mapper: crypt: dm-1: INTEGRITY AEAD ERROR, sector 8",
        b"device-mapper: crypt: : INTEGRITY AEAD ERROR, sector 8",
        b"device-mapper: crypt: ../../x: INTEGRITY AEAD ERROR, sector 8",
        b"device-mapper: crypt: " + b"d" * 33 + b": INTEGRITY AEAD ERROR, sector 8",
        b"virtio_blk virtio2: [vda] 131072 512-byte logical blocks",
        b"first\ndevice-mapper: crypt: dm-1: INTEGRITY AEAD ERROR, sector 8",
    ],
)
def test_any_other_line_is_no_fault(text: bytes) -> None:
    assert parse_disk_fault(text) is None
