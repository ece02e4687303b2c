from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.machine.disks import create_disk, create_sparse_disk


def test_sparse_disk_has_its_size_and_takes_no_room(tmp_path: Path) -> None:
    status = create_sparse_disk(tmp_path / "disk", 1 << 30).stat()
    assert (status.st_size, status.st_blocks) == (1 << 30, 0)


@pytest.mark.parametrize("size", [0, -4096, 4095, 4097])
def test_size_that_is_no_whole_number_of_blocks_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError) as error:
        create_sparse_disk(tmp_path / "disk", size)
    assert error.value.reason == "disk.size"
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize(("size", "expected"), [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192)])
def test_disk_with_content_is_padded(tmp_path: Path, size: int, expected: int) -> None:
    path = create_disk(tmp_path / "disk", b"x" * size)
    assert path.read_bytes() == (b"x" * size).ljust(expected, b"\0")


def test_existing_disk_is_not_overwritten(tmp_path: Path) -> None:
    create_disk(tmp_path / "disk", b"precious")
    with pytest.raises(FileExistsError):
        create_sparse_disk(tmp_path / "disk", 4096)
