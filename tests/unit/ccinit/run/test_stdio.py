"""Pipes that never hold up who writes."""

import os
from itertools import islice

import pytest

from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.run import stdio
from ccinit.run.stdio import CHUNK_BYTES, drain, open_outputs, pump


def test_pump_moves_bytes_as_they_are_until_the_last_writer_is_gone() -> None:
    (pipe,), seen = open_outputs(1), bytearray()

    async def main() -> None:
        async with TaskGroup() as group:
            group.start(pump(pipe.reader, seen.extend), "pump")
            os.write(pipe.writer, b"\0\xff\x1b[2J")
            os.close(pipe.writer)

    EventLoop().run(main())
    os.close(pipe.reader)
    assert seen == b"\0\xff\x1b[2J"


def test_r93_small_pieces_are_gathered_and_cost_no_turn_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (pipe,), seen, pieces = open_outputs(1), list[bytes](), iter(range(200))

    def write_some() -> None:
        for piece in islice(pieces, 50):
            os.write(pipe.writer, b"%03d" % piece)

    async def pause(seconds: float) -> None:
        assert seconds > 0  # else whoever writes without end would have every other turn
        write_some()  # what comes meanwhile

    async def main() -> None:
        async with TaskGroup() as group:
            group.start(pump(pipe.reader, seen.append), "pump")
            os.write(pipe.writer, b"begin")
            while not b"".join(seen).endswith(b"199"):
                await sleep(0)
            os.close(pipe.writer)

    monkeypatch.setattr(stdio, "sleep", pause)
    EventLoop().run(main())
    os.close(pipe.reader)
    assert [len(chunk) for chunk in seen] == [5, 150, 150, 150, 150]


def test_drain_takes_one_chunk_and_does_not_wait() -> None:
    (pipe,), seen = open_outputs(1), bytearray()
    assert drain(pipe.reader, seen.extend) is None
    os.write(pipe.writer, bytes(CHUNK_BYTES))
    os.close(pipe.writer)
    assert drain(pipe.reader, seen.extend) == CHUNK_BYTES
    assert len(seen) == CHUNK_BYTES
    assert drain(pipe.reader, seen.extend) == 0
    os.close(pipe.reader)
