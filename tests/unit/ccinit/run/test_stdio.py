"""Pipes that never hold up who writes."""

import os

from ccinit.kernel.event_loop import EventLoop, TaskGroup
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


def test_drain_takes_one_chunk_and_does_not_wait() -> None:
    (pipe,), seen = open_outputs(1), bytearray()
    assert not drain(pipe.reader, seen.extend)
    os.write(pipe.writer, bytes(CHUNK_BYTES))
    os.close(pipe.writer)
    assert not drain(pipe.reader, seen.extend)
    assert len(seen) == CHUNK_BYTES
    assert drain(pipe.reader, seen.extend)
    os.close(pipe.reader)
