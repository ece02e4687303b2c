import pytest

from ccinit.formats.disk.integrity import count_meta_bytes

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("disk_bytes", "meta_bytes"),
    [
        pytest.param(GIB, 4096 + 264 * 512 + 8 * MIB, id="8-mib-for-each-gib"),
        pytest.param(64 * GIB, 4096 + 264 * 512 + 512 * MIB, id="64-gib"),
        pytest.param(4096, 4096 + 264 * 512 + 65536, id="whole-buffers"),
    ],
)
def test_meta_bytes_are_superblock_journal_and_tags(disk_bytes: int, meta_bytes: int) -> None:
    assert count_meta_bytes(disk_bytes) == meta_bytes
