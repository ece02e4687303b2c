"""Layers through real pipes: what is written comes out, and an end is told from a death."""

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, KernelError
from ccinit.pull.layers.stream import (
    MAX_CHUNK_BYTES,
    LayerReader,
    LayerWriter,
    make_buffer,
    open_pipe,
)
from tests.fakes.images.layer_pipes import LayerPipe

BIG = os.urandom(MAX_CHUNK_BYTES + 5)


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """The fds that are open: reading end, writing end."""
    fds = list(open_pipe())
    yield fds
    for fd in fds:
        os.close(fd)


def test_layers_come_out_as_they_went_in_and_are_kept_apart() -> None:
    layers = [b"one", b"", BIG, b"x" * MAX_CHUNK_BYTES]
    assert LayerPipe(layers).layers() == layers


@pytest.mark.parametrize("at_once", [1, 3, 4, 5, 100])
def test_layer_that_the_pipe_takes_in_parts_arrives_whole(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    def take(fd: int, parts: list[memoryview]) -> int:
        return os.write(fd, b"".join(parts)[:at_once])

    monkeypatch.setattr(os, "writev", take)
    layers = [b"one", b"", bytes(range(256))]
    assert LayerPipe(layers).layers() == layers


def test_buffer_begins_with_a_page() -> None:
    buffer = make_buffer(MAX_CHUNK_BYTES)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    assert (len(buffer), address % mmap.PAGESIZE) == (MAX_CHUNK_BYTES, 0)


def test_buffer_that_finds_no_memory_is_the_kernels_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(KernelError) as refused:
        make_buffer(MAX_CHUNK_BYTES)
    assert (refused.value.reason, refused.value.errno) == ("kernel.mmap", errno.ENOMEM)


def test_pieces_are_bounded_by_a_chunk() -> None:
    pipe = LayerPipe([BIG])
    sizes = [len(chunk) for chunk in LayerReader(pipe.fd).chunks()]
    assert sizes == [MAX_CHUNK_BYTES, 5]


def test_pipe_has_room_for_three_chunks_and_their_lengths(pipe: list[int]) -> None:
    source, sink = LayerReader(pipe[0]), LayerWriter(pipe[1])
    os.set_blocking(pipe[1], False)
    sink.write(b"x" * (3 * MAX_CHUNK_BYTES))
    sink.end_layer()
    assert [len(chunk) for chunk in source.chunks()] == [MAX_CHUNK_BYTES] * 3


def test_pipe_that_cannot_be_widened_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, "over the user's share")

    monkeypatch.setattr("fcntl.fcntl", refuse)
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(KernelError):
        open_pipe()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("written", [b"", b"\0\0", struct.pack(">I", 4) + b"abc"])
def test_writer_that_dies_is_no_end_of_a_layer(pipe: list[int], written: bytes) -> None:
    os.write(pipe[1], written)
    os.close(pipe.pop())
    with pytest.raises(CcinitError) as refused:
        list(LayerReader(pipe[0]).chunks())
    assert refused.value.reason == "pull.neighbour"


def test_reader_that_dies_is_told(pipe: list[int]) -> None:
    os.close(pipe.pop(0))
    with pytest.raises(CcinitError) as refused:
        LayerWriter(pipe[0]).write(b"x")
    assert refused.value.reason == "pull.neighbour"


def test_chunk_beyond_the_cap_is_refused(pipe: list[int]) -> None:
    os.write(pipe[1], struct.pack(">I", MAX_CHUNK_BYTES + 1))
    with pytest.raises(CcinitError) as refused:
        list(LayerReader(pipe[0]).chunks())
    assert refused.value.reason == "pull.stream"


def test_full_disk_has_a_reason_of_its_own() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(CcinitError) as refused:
            LayerWriter(fd).write(b"x")
    finally:
        os.close(fd)
    assert refused.value.reason == "pull.enospc"
