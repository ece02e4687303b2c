"""PID 1's ends of the owner plane's streams: descriptors for the child, and the tasks behind them.

PID 1 buffers at most about 64 KiB or one entry of each stream, while its pipe is full: a client
that stops reading stalls only its own pipe. Tasks started here belong to the connection's task
group and end with it.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from ccinit.agent.processes.conversation import Answer
from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import METHODS, Value
from ccinit.formats.planes.owner_wire import LogLine, encode_log_line, encode_result
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import writable
from ccinit.kernel.pipes import Pipe, open_pipes
from ccinit.kernel.process import Process
from ccinit.owner.messages import CallAnswer, CallEnd, Flow, Port
from ccinit.seal.recent import Entry, RecentEntries

BATCH_BYTES: Final = 64 << 10  # of entries written together; the capacity of a pipe
_OUTPUT_KINDS: Final = frozenset({Kind.STDOUT, Kind.STDERR})

EntryFilter = Callable[[Entry], bool]


def open_outgoing(count: int) -> tuple[Pipe, ...]:
    """Make pipes that we write, without blocking, and that the child reads.

    Raises:
        KernelError: no free descriptors; none stays open.
    """
    pipes = open_pipes(count)
    for pipe in pipes:
        os.set_blocking(pipe.writer, False)
    return pipes


def done(method: str, result: tuple[Value, ...]) -> Answer:
    """Answer a call that is finished."""
    end = CallEnd(result=encode_result(METHODS[method], result))
    return Answer(value=CallAnswer(end=end))


def refused(code: RpcError, reason: str, detail: str) -> Answer:
    """Answer a call that is not carried out."""
    return Answer(value=CallAnswer(end=CallEnd(code=code, reason=reason, detail=detail)))


def streaming(*ports: tuple[Flow, int, int]) -> Answer:
    """Answer a call that continues on ports, each a flow, an fd of `data`, and a descriptor."""
    named = tuple(Port(flow=flow, fd=fd) for flow, fd, _ in ports)
    return Answer(value=CallAnswer(end=None, ports=named), fds=tuple(port[2] for port in ports))


def of_kinds(kinds: frozenset[Kind]) -> EntryFilter:
    """Return a filter for entries of these kinds, whoever wrote them."""
    return lambda entry: entry.kind in kinds


def output_of(container: str) -> EntryFilter:
    """Return a filter for what a container's program wrote."""
    return lambda entry: entry.kind in _OUTPUT_KINDS and entry.source == container


async def write_all(descriptor: int, data: bytes) -> bool:
    """Write to a pipe as fast as it is read; return False if its reader is gone."""
    rest = memoryview(data)
    while rest:
        await writable(descriptor)
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return False
    return True


def write_end(descriptor: int, end: CallEnd) -> None:
    """Write the end of a call into a pipe of its own, which is empty and has room for it."""
    try:
        os.write(descriptor, wire.encode(end))
    except BrokenPipeError:
        return  # the connection is gone


async def follow_entries(
    recent: RecentEntries,
    first: int,
    wanted: EntryFilter,
    *,
    method: str,
    follow: bool,
    output: int,
    end: int,
) -> None:
    """Write recent entries to `output` until there are no more, or while it is read.

    Entries that are dropped before the client reads them are missing; the numbers show the gap.
    """
    try:
        while entries := await _next_entries(recent, first, lambda: not follow):
            first = entries[-1].sequence + 1
            data = b"".join(encode_log_line(_line(one)) for one in entries if wanted(one))
            if not await write_all(output, data):
                return
        write_end(end, CallEnd(result=encode_result(METHODS[method], (first,))))
    finally:
        os.close(output)
        os.close(end)


async def follow_output(
    recent: RecentEntries,
    outputs: Mapping[Kind, int],
    wanted: EntryFilter,
    is_over: Callable[[], bool],
    *,
    end: int,
) -> None:
    """Write a container's future output to the stream of its kind, until the container is done."""
    first = recent.following
    try:
        while entries := await _next_entries(recent, first, is_over):
            first = entries[-1].sequence + 1
            for entry in entries:
                if wanted(entry) and not await write_all(outputs[entry.kind], entry.data):
                    return
        write_end(end, CallEnd(result=encode_result(METHODS["attach"], ())))
    finally:
        close_all((*outputs.values(), end))


async def _next_entries(
    recent: RecentEntries, first: int, is_over: Callable[[], bool]
) -> tuple[Entry, ...]:
    """Wait for entries from number `first` on; returns none if `is_over` and there are no more."""
    while not (entries := recent.since(first, BATCH_BYTES)) and not is_over():
        recent.changed.clear()
        await recent.changed.wait()
    return entries


async def attend(process: Process, *, end: int) -> None:
    """Wait for a program that `exec` started and report its end; kill it with the connection."""
    try:
        status = await process.wait()
        result = encode_result(METHODS["exec"], (status.code, status.signal))
        write_end(end, CallEnd(result=result))
    finally:
        os.close(end)
        # do not wait: a process that hangs in the kernel must not occupy the connection's slot
        process.kill()
        process.disown()


def _line(entry: Entry) -> LogLine:
    return LogLine(
        sequence=entry.sequence,
        boottime_us=entry.boottime_us,
        kind=entry.kind,
        source=entry.source,
        data=entry.data,
    )
