"""Files in memory: whole, or none."""

import errno
import os

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.memory_file import open_memory_file
from tests.fakes.machine.scarcity import count_descriptors, descriptors_left


def test_file_holds_the_content_and_closes_on_exec() -> None:
    content = bytes(range(256)) * 300
    fd = open_memory_file("trial", content)
    try:
        assert os.pread(fd, len(content) + 1, 0) == content
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_r79_file_that_is_not_to_be_had_is_the_kernels_refusal() -> None:
    with descriptors_left(0), pytest.raises(KernelError) as error:
        open_memory_file("trial", b"content")
    assert (error.value.reason, error.value.errno) == ("kernel.memfd_create", errno.EMFILE)


def test_file_that_cannot_be_written_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "write", refuse)
    before = count_descriptors()
    with pytest.raises(KernelError) as error:
        open_memory_file("trial", b"content")
    assert (error.value.reason, error.value.errno) == ("kernel.memfd_create", errno.ENOMEM)
    assert count_descriptors() == before
