"""A volume that its pod has filled up, as the kernel has it: the guest's own number still fits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccinit.kernel.mount import NO_FLAGS, mount, unmount
from ccinit.unlock.rollback import read_counter, write_counter


@pytest.fixture
def volume(as_root: None, tmp_path: Path) -> Iterator[Path]:
    mount("none", str(tmp_path), "tmpfs", NO_FLAGS, "size=64k,nr_inodes=8")
    try:
        yield tmp_path
    finally:
        unmount(str(tmp_path))


def use_up_blocks(volume: Path) -> None:
    (volume / "data").write_bytes(bytes(1 << 20))


def use_up_inodes(volume: Path) -> None:
    for number in range(8):
        (volume / str(number)).touch()


@pytest.mark.parametrize("use_up", [use_up_blocks, use_up_inodes])
def test_full_volume_takes_the_next_number(volume: Path, use_up: Callable[[Path], None]) -> None:
    """Or it could never be opened again: opening it is what advances the number."""
    own = volume / "own"
    own.mkdir()
    write_counter(str(own), 9)
    with pytest.raises(OSError, match="No space left"):
        use_up(volume)
    for counter in (10, 11, 100):
        write_counter(str(own), counter)
        assert read_counter(str(own)) == counter
