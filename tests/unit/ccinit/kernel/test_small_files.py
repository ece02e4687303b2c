import os
from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.small_files import read_to_end, write_setting


def test_setting_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "setting"
    with pytest.raises(KernelError) as refused:
        write_setting(str(path), b"1\n", "sysctl", "kernel.none")
    assert str(refused.value) == "kernel.sysctl: kernel.none: errno 2 (ENOENT)"
    with pytest.raises(KernelError) as refused:
        write_setting(str(path), b"1\n", "cgroup")
    assert str(refused.value) == f"kernel.cgroup: {path}: errno 2 (ENOENT)"
    assert not path.exists()


@pytest.mark.parametrize(("cap", "content"), [(8, b"12345678"), (7, b"12345678"), (3, b"1234")])
def test_file_is_read_to_its_end_or_one_byte_beyond_its_cap(cap: int, content: bytes) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file:
        os.write(writer, b"12345678")
        os.close(writer)
        assert read_to_end(file.fileno(), cap, "read", "pipe") == content


def test_file_that_cannot_be_read_is_the_kernels_refusal(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(KernelError) as refused:
            read_to_end(fd, 8, "read", "a directory")
    finally:
        os.close(fd)
    assert str(refused.value) == "kernel.read: a directory: errno 21 (EISDIR)"
