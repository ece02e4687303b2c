"""A descriptor is closed once, by whoever has it."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.pipes import open_pipes


@pytest.fixture
def numbers() -> Iterator[tuple[int, int]]:
    """Two open descriptors."""
    (pipe,) = open_pipes(1)
    yield pipe.reader, pipe.writer
    for number in (pipe.reader, pipe.writer):
        if is_open(number):
            os.close(number)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_descriptor_is_closed_once(numbers: tuple[int, int]) -> None:
    number, other = numbers
    descriptor = Descriptor(number)
    descriptor.close()
    assert not is_open(number)
    assert os.dup(other) == number
    descriptor.close()
    assert is_open(number)


def test_descriptor_that_was_taken_is_left_open(numbers: tuple[int, int]) -> None:
    number, _other = numbers
    with closing(Descriptor(number)) as descriptor:
        assert descriptor.take() == number
    assert is_open(number)


def test_block_has_the_number_and_closes_it(numbers: tuple[int, int]) -> None:
    number, _other = numbers
    with Descriptor(number) as lent:
        assert lent == number
        assert is_open(number)
    assert not is_open(number)


def test_nobody_gets_what_another_has(numbers: tuple[int, int]) -> None:
    descriptor = Descriptor(numbers[0])
    descriptor.take()
    with pytest.raises(RuntimeError):
        descriptor.take()
    with pytest.raises(RuntimeError), descriptor:
        pass
    assert is_open(numbers[0])
