"""How small a persistent volume may be, by what mkfs.ext4 makes of it: its journal has to fit."""

import os
import subprocess
from pathlib import Path

import pytest

from ccinit.formats.pod.volume import MIN_JOURNALED_BYTES
from ccinit.unlock.filesystem import plan_mkfs
from ccinit.unlock.integrity import plan_disk_layout
from ccinit.unlock.volume import JOURNAL_BYTES

TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
MKFS = (
    str(TOOLS / "lib64/ld-linux-x86-64.so.2"),
    *("--library-path", str(TOOLS / "usr/lib/x86_64-linux-gnu"), str(TOOLS / "usr/sbin/mke2fs")),
)
HAS_JOURNAL = 0x4
COMPAT_OFFSET = 1024 + 92  # in the superblock: kernel documentation, filesystems/ext4/super


def has_journal(folder: Path, disk_bytes: int) -> bool:
    """Make the file system of a volume on such a disk; say whether it has a journal."""
    file = folder / "volume"
    file.touch()
    size_bytes = plan_disk_layout(disk_bytes, JOURNAL_BYTES).provided_bytes
    os.truncate(file, size_bytes)
    options = plan_mkfs(str(file), size_bytes, journal=True)
    subprocess.run([*MKFS, *options], check=True, capture_output=True)
    with file.open("rb") as stream:
        stream.seek(COMPAT_OFFSET)
        return bool(int.from_bytes(stream.read(4), "little") & HAS_JOURNAL)


def test_smallest_volume_of_a_manifest_has_a_journal(tmp_path: Path) -> None:
    assert has_journal(tmp_path, MIN_JOURNALED_BYTES)


def test_mkfs_leaves_the_journal_out_of_a_smaller_one_without_an_error(tmp_path: Path) -> None:
    assert not has_journal(tmp_path, 16 << 20)
    with pytest.raises(subprocess.CalledProcessError, match="status 1"):
        has_journal(tmp_path, 40 << 20)
