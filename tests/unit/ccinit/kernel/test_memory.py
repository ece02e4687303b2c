"""What of a process the kernel may have back, and that the rest is left alone."""

import ctypes
import mmap
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ccinit.kernel.memory import Mapping, code_mappings, page_out_code, trim_heap

PAGE_BYTES = mmap.PAGESIZE
PAGES = 64
_BLOCKS, _BLOCK_BYTES = 1024, 4 * PAGE_BYTES  # small enough to lie in the heap (mallopt(3))
MAPS = """\
00400000-00a00000 r-xp 00000000 fe:01 123                        /usr/bin/python3.13
00a00000-00a10000 rw-p 00600000 fe:01 123                        /usr/bin/python3.13
7f0000000000-7f0000001000 r--p 00000000 fe:01 77                 /usr/lib/with a space.so
7f0000002000-7f0000003000 rw-p 00000000 00:00 0\x20
7f0000004000-7f0000005000 r--p 00000000 00:00 0\x20
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                  [vdso]
"""


def test_only_files_that_are_not_written_to_are_named() -> None:
    assert list(code_mappings(MAPS.splitlines(keepends=True))) == [
        Mapping(0x400000, 0x600000),
        Mapping(0x7F0000000000, 0x1000),
    ]


@pytest.fixture
def folder() -> Iterator[Path]:
    """On a disk: a page of tmpfs has nowhere to go."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture
def mapped(folder: Path) -> Iterator[tuple[mmap.mmap, Path]]:
    """A file that is mapped and read, and its line of /proc/self/maps alone."""
    path = folder / "code"
    path.write_bytes(os.urandom(PAGES * PAGE_BYTES))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapping:
        assert sum(mapping[::PAGE_BYTES]) > 0
        maps = folder / "maps"
        lines = Path("/proc/self/maps").read_text().splitlines(keepends=True)
        maps.write_text("".join(line for line in lines if line.rstrip().endswith(str(path))))
        yield mapping, maps
    os.close(fd)


def resident_bytes(path: str) -> int:
    """Return what of a file is mapped into this process now."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            found = line.endswith(path)
        elif found and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


def flags_of(path: str) -> set[str]:
    """Return the kernel's flags of a mapping (proc(5), VmFlags)."""
    mappings = Path("/proc/self/smaps").read_text().split("VmFlags:")
    flags = [
        after.splitlines()[0].split()
        for before, after in pairwise(mappings)
        if f"{path}\n" in before
    ]
    (found,) = flags
    return set(found)


def test_free_pages_between_used_ones_are_given_back() -> None:
    libc = ctypes.CDLL(None)
    allocate, free = libc.malloc, libc.free
    allocate.restype, free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    blocks = [allocate(_BLOCK_BYTES) for _ in range(_BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, _BLOCK_BYTES)
    kept, freed = blocks[::8], [block for place, block in enumerate(blocks) if place % 8]
    for block in freed:
        free(block)
    held = private_bytes()
    trim_heap()
    assert held - private_bytes() > len(freed) * _BLOCK_BYTES // 2
    assert all(ctypes.string_at(block, _BLOCK_BYTES) == b"\1" * _BLOCK_BYTES for block in kept)
    for block in kept:
        free(block)


def private_bytes() -> int:
    """Return what this process alone has written."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel does not say")


@pytest.mark.parametrize("singly", [False, True])
def test_pages_come_back_without_their_neighbours_only_if_asked_for(
    mapped: tuple[mmap.mmap, Path], folder: Path, *, singly: bool
) -> None:
    _, maps = mapped
    page_out_code(str(maps), singly=singly)
    assert ("rr" in flags_of(str(folder / "code"))) is singly


def test_pages_of_a_file_are_given_back_and_read_again(
    mapped: tuple[mmap.mmap, Path], folder: Path
) -> None:
    mapping, maps = mapped
    path = str(folder / "code")
    assert resident_bytes(path) == PAGES * PAGE_BYTES
    page_out_code(str(maps))
    assert resident_bytes(path) < PAGES * PAGE_BYTES // 4
    assert mapping[:] == Path(path).read_bytes()
