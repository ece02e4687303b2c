"""The tar goes into the pipe and out of memory."""

import os
import threading
from collections.abc import Iterator

import pytest

from ccinit.errors import CcinitError
from ccinit.pull.erofs.feed import feed_job
from ccinit.pull.layers.stream import SINK, SOURCE
from ccinit.pull.messages.feed import FeedRequest

TAR = os.urandom(1 << 20) + bytes(1 << 20) + os.urandom((1 << 20) + 512)


class Channel:
    """A file in memory, and a pipe that a thread reads to its end."""

    def __init__(self) -> None:
        self.tar = os.memfd_create("tar")
        os.write(self.tar, TAR)
        self.reader, self.writer = os.pipe()
        self.fds = {SOURCE: self.tar, SINK: self.writer}
        self.received = bytearray()
        self.most_blocks = 0

    def blocks(self) -> int:
        return os.fstat(self.tar).st_blocks

    def read(self) -> None:
        while chunk := os.read(self.reader, 1 << 16):
            self.received += chunk
            self.most_blocks = max(self.most_blocks, self.blocks() + len(self.received) // 512)


@pytest.fixture
def channel() -> Iterator[Channel]:
    channel = Channel()
    yield channel
    for fd in (channel.tar, channel.reader):
        os.close(fd)


def test_tar_is_passed_on_whole_and_leaves_nothing(channel: Channel) -> None:
    thread = threading.Thread(target=channel.read)
    thread.start()
    before = channel.blocks()
    feed_job(FeedRequest(), channel)
    os.close(channel.writer)
    thread.join()
    assert bytes(channel.received) == TAR
    assert before * 512 >= len(TAR)
    assert channel.blocks() == 0
    # file and copy together: never more than the tar and two pieces of it
    assert channel.most_blocks * 512 <= len(TAR) + (2 << 20) + 8192
    assert os.fstat(channel.tar).st_size == len(TAR)


def test_reader_that_ends_is_told_as_a_neighbour(channel: Channel) -> None:
    read_end, channel.reader = channel.reader, os.dup(channel.tar)
    os.close(read_end)
    with pytest.raises(CcinitError) as refused:
        feed_job(FeedRequest(), channel)
    os.close(channel.writer)
    assert refused.value.reason == "pull.neighbour"
