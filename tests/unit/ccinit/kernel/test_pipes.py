"""Pipes: all or none."""

import errno
import os

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.pipes import open_pipes, open_socket_pair
from tests.fakes.machine.scarcity import count_descriptors, descriptors_left


def test_pipes_carry_bytes_one_way_and_close_on_exec() -> None:
    pipes = open_pipes(3)
    for pipe in pipes:
        assert not os.get_inheritable(pipe.reader)
        assert not os.get_inheritable(pipe.writer)
        os.write(pipe.writer, b"x")
        assert os.read(pipe.reader, 2) == b"x"
        pipe.close()


@pytest.mark.parametrize("left", range(6))
def test_r79_pipes_that_are_not_all_to_be_had_leave_none_behind(left: int) -> None:
    before = count_descriptors()
    with descriptors_left(left), pytest.raises(KernelError) as error:
        open_pipes(3)
    assert (error.value.reason, error.value.errno) == ("kernel.pipe2", errno.EMFILE)
    assert count_descriptors() == before


def test_r79_socket_pair_that_is_not_to_be_had_is_the_kernels_refusal() -> None:
    with descriptors_left(1), pytest.raises(KernelError) as error:
        open_socket_pair()
    assert (error.value.reason, error.value.errno) == ("kernel.socketpair", errno.EMFILE)
