"""Output of a container or of one of the guest's programs, from its pipe to a sink (R93).

Scope: pipes, and a task that moves bytes as they come. Left to others: cutting, capping, counting
and sealing (`ccinit.seal.log`, behind `OutputSink`).

The sink never blocks, so pipes are always drained, and no workload waits for a log collector. Small
writes are gathered for a moment: each read makes a record, and takes time of PID 1 that no
container is charged for.
"""

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from ccinit.kernel.event_loop import readable, sleep
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.pipes import Pipe, open_pipes

CHUNK_BYTES: Final = 64 << 10
_SMALL_BYTES: Final = 4 << 10
_PAUSE_SECONDS: Final = 0.01
"""After a small read. A read returns one packet (O_DIRECT, pipe(2)): at most a hundred a second."""

OutputSink: TypeAlias = Callable[[bytes], object]
"""Takes some bytes of one stream; its result is ignored. Must not raise or wait."""


def open_outputs(count: int) -> tuple[Pipe, ...]:
    """Make pipes whose write ends are for a child; the read ends do not block.

    Raises:
        KernelError: no free descriptors.
    """
    pipes = open_pipes(count)
    for pipe in pipes:
        os.set_blocking(pipe.reader, False)
    return pipes


async def pump(reader: int, sink: OutputSink) -> None:
    """Move bytes from `reader` to `sink` until the last writer is gone. `reader` stays open."""
    while True:
        await readable(reader)
        moved = drain(reader, sink)
        if moved == 0:
            return
        if moved is None or moved < _SMALL_BYTES:
            await sleep(_PAUSE_SECONDS)


def drain(reader: int, sink: OutputSink) -> int | None:
    """Move one chunk and return its size: 0 if the last writer is gone, None if nothing is there.

    One chunk at a time: a container that writes without pause must not starve PID 1's other tasks.
    """
    try:
        data = os.read(reader, CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        raise kernel_error(error, "read", "pipe") from error
    if data:
        sink(data)
    return len(data)
