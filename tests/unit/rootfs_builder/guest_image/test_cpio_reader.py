"""An initrd reads back as it was written, and what is cut or damaged is refused."""

import stat
import tracemalloc

import pytest
import zstandard

from ccinit.errors import FormatError
from measured_boot.image.cpio import character_device, directory, encode_cpio, regular_file
from rootfs_builder.guest_image.cpio_reader import read_initrd

PLAIN = encode_cpio([regular_file("ccinit.cmdline", b"quiet")])
REST = encode_cpio([directory("dev"), character_device("dev/null", 1, 3, 0o666)])


def packed(data: bytes) -> bytes:
    frame = zstandard.ZstdCompressor().compress(data)
    return frame + bytes(-len(frame) % 4)


def test_archives_behind_each_other_are_read_in_order() -> None:
    members = read_initrd(PLAIN + packed(REST))
    assert [member.name for member in members] == [
        *("ccinit.cmdline", "TRAILER!!!", "dev", "dev/null", "TRAILER!!!"),
    ]
    assert members[0].data == b"quiet"
    assert members[3].fields[1] == stat.S_IFCHR | 0o666
    assert members[3].fields[9:11] == (1, 3)


def test_two_plain_archives_are_read() -> None:
    assert len(read_initrd(PLAIN + PLAIN)) == 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"x" * 200, "cpio.magic"),
        (PLAIN[:120], "cpio.header"),
        (PLAIN[: PLAIN.index(b"070701", 6)], "cpio.header"),
        (PLAIN.replace(b"00000005", b"0000000g", 1), "cpio.header"),
        (PLAIN.replace(b"00000005", b"+0000005", 1), "cpio.header"),
        (PLAIN.replace(b"00000005", b"0x000005", 1), "cpio.header"),
        (PLAIN.replace(b"00000005", b"0000_005", 1), "cpio.header"),
        (PLAIN.replace(b"00000005", b"       5", 1), "cpio.header"),
        (packed(REST)[:20], "cpio.zstd"),
        (packed(REST)[:4] + b"\xff" * 40, "cpio.zstd"),
    ],
)
def test_damaged_initrd_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        read_initrd(data)
    assert error.value.reason == reason


def test_many_archives_are_read_in_one_pass() -> None:
    """A slice of the rest for each of them would copy 40 GB, and need room for it each time."""
    empty = encode_cpio([])
    tail = encode_cpio([regular_file("root.erofs", bytes(16 << 20))])
    data = empty * 2500 + tail
    tracemalloc.start()
    try:
        assert len(read_initrd(data)) == 2502
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 24 << 20  # the file's content, once
