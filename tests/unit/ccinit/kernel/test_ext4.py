import errno
from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.ext4 import resize_ext4


def refused(directory: str) -> KernelError:
    with pytest.raises(KernelError) as error:
        resize_ext4(directory, 1)
    assert error.value.reason == "kernel.ext4.resize"
    return error.value


def test_file_system_of_another_kind_does_not_grow() -> None:
    assert refused("/proc").errno == errno.ENOTTY


def test_file_system_that_is_not_there_does_not_grow(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "absent")).errno == errno.ENOENT
