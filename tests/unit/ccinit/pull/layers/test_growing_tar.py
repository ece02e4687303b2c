"""A tar that grows: what was appended is read, and an end is told from a death and from a lie."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.pull.layers.growing_tar import (
    MAX_PIECE_BYTES,
    WORDS_AHEAD,
    TarAppender,
    TarFollower,
    open_word_pipe,
)

BIG = os.urandom(MAX_PIECE_BYTES + 5)


@pytest.fixture
def words() -> Iterator[list[int]]:
    """The fds that are open: reading end, writing end."""
    fds = list(open_word_pipe())
    yield fds
    for fd in fds:
        os.close(fd)


class Tar:
    def __init__(self, path: Path) -> None:
        self.writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.reader = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self.writer)
        os.close(self.reader)


@pytest.fixture
def tars(tmp_path: Path) -> Iterator[list[Tar]]:
    made = [Tar(tmp_path / name) for name in "abc"]
    yield made
    for tar in made:
        tar.close()


def word(length: int) -> bytes:
    return struct.pack(">I", length)


def test_layers_come_out_as_they_went_in_and_are_kept_apart(
    words: list[int], tars: list[Tar]
) -> None:
    appender, follower = TarAppender(words[1]), TarFollower(words[0])
    contents = (b"one", b"", BIG)
    for tar, content in zip(tars, contents, strict=True):
        appender.append(tar.writer, content)
        appender.end_layer()
    for tar, content in zip(tars, contents, strict=True):
        assert b"".join(bytes(piece) for piece in follower.pieces(tar.reader)) == content


def test_tar_is_read_while_it_grows(words: list[int], tars: list[Tar]) -> None:
    appender = TarAppender(words[1])
    pieces = TarFollower(words[0]).pieces(tars[0].reader)
    for content in (b"one", b"two", BIG[:-5]):
        appender.append(tars[0].writer, content)
        assert bytes(next(pieces)) == content
    appender.end_layer()
    assert next(pieces, None) is None


def test_pieces_are_bounded(words: list[int], tars: list[Tar]) -> None:
    appender = TarAppender(words[1])
    appender.append(tars[0].writer, BIG)
    appender.end_layer()
    sizes = [len(piece) for piece in TarFollower(words[0]).pieces(tars[0].reader)]
    assert sizes == [MAX_PIECE_BYTES, 5]


def test_writer_is_bounded_in_how_far_it_is_ahead(words: list[int], tars: list[Tar]) -> None:
    appender = TarAppender(words[1])
    os.set_blocking(words[1], False)
    for _ in range(WORDS_AHEAD):
        appender.append(tars[0].writer, b"x")
    with pytest.raises(CcinitError) as refused:
        appender.append(tars[0].writer, b"x")
    assert refused.value.reason == "kernel.write"


@pytest.mark.parametrize("written", [b"", word(3)])
def test_writer_that_dies_is_no_end_of_a_layer(
    words: list[int], tars: list[Tar], written: bytes
) -> None:
    os.write(tars[0].writer, b"abc")
    os.write(words[1], written)
    os.close(words.pop())
    with pytest.raises(CcinitError) as refused:
        list(TarFollower(words[0]).pieces(tars[0].reader))
    assert refused.value.reason == "pull.neighbour"


@pytest.mark.parametrize("lengths", [(4, 0), (2, 2, 0), (MAX_PIECE_BYTES + 1, 0)])
def test_word_that_is_not_true_is_refused(
    words: list[int], tars: list[Tar], lengths: tuple[int, ...]
) -> None:
    os.write(tars[0].writer, b"abc")
    for length in lengths:
        os.write(words[1], word(length))
    with pytest.raises(CcinitError) as refused:
        list(TarFollower(words[0]).pieces(tars[0].reader))
    assert refused.value.reason == "pull.stream"


def test_word_that_is_cut_is_refused(words: list[int], tars: list[Tar]) -> None:
    os.write(words[1], word(0)[:-1])
    with pytest.raises(CcinitError) as refused:
        list(TarFollower(words[0]).pieces(tars[0].reader))
    assert refused.value.reason == "pull.stream"


def test_reader_that_dies_is_told(words: list[int], tars: list[Tar]) -> None:
    os.close(words.pop(0))
    with pytest.raises(CcinitError) as refused:
        TarAppender(words[0]).append(tars[0].writer, b"x")
    assert refused.value.reason == "pull.neighbour"


def test_full_disk_has_a_reason_of_its_own(words: list[int]) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(CcinitError) as refused:
            TarAppender(words[1]).append(fd, b"x")
    finally:
        os.close(fd)
    assert refused.value.reason == "pull.enospc"
