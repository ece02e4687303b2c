"""PID 1's ends of the owner plane's streams: descriptors for the child, and the tasks behind them.

Of a stream PID 1 holds what waits for its pipe, some 64 KiB or one entry: a client that stands
still stops its own pipe and nothing else. Whatever is started here belongs to the connection's task
group and ends with it.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final

from ccinit.agent.processes.children import Answer
from ccinit.formats.encoding import wire
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import METHODS, Value
from ccinit.formats.planes.owner_wire import LogLine, encode_log_line, encode_result
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.event_loop import writable
from ccinit.kernel.pipes import open_pipes
from ccinit.kernel.process import Process
from ccinit.owner.messages import CallAnswer, CallEnd, Flow, Port
from ccinit.seal.recent import Entry, RecentEntries
from ccinit.values import frozen

BATCH_BYTES: Final = 64 << 10  # of entries that are written together; a pipe has as much
_OUTPUT_KINDS: Final = frozenset({Kind.STDOUT, Kind.STDERR})

EntryFilter = Callable[[Entry], bool]


@frozen
class Outgoing:
    """A pipe. Our end does not block; the child's goes away with the answer that carries it."""

    ours: int
    theirs: int


def open_outgoing(count: int) -> tuple[Outgoing, ...]:
    """Make pipes that we write and the child reads.

    Raises:
        KernelError: no descriptors to be had; none stays open.
    """
    pipes = open_pipes(count)
    for pipe in pipes:
        os.set_blocking(pipe.writer, False)
    return tuple(Outgoing(ours=pipe.writer, theirs=pipe.reader) for pipe in pipes)


def done(method: str, result: tuple[Value, ...]) -> Answer:
    """Answer a call that is over."""
    end = CallEnd(result=encode_result(METHODS[method], result))
    return Answer(value=CallAnswer(end=end))


def refused(code: RpcError, reason: str, detail: str) -> Answer:
    """Answer a call that is not carried out."""
    return Answer(value=CallAnswer(end=CallEnd(code=code, reason=reason, detail=detail)))


def streaming(*ports: tuple[Flow, int, int]) -> Answer:
    """Answer a call that goes on by ports: each its flow, fd of `data`, and descriptor."""
    named = tuple(Port(flow=flow, fd=fd) for flow, fd, _ in ports)
    return Answer(value=CallAnswer(end=None, ports=named), fds=tuple(port[2] for port in ports))


def of_kinds(kinds: frozenset[Kind]) -> EntryFilter:
    """Want entries of these kinds, whoever wrote them."""
    return lambda entry: entry.kind in kinds


def output_of(container: str) -> EntryFilter:
    """Want what a container's program wrote."""
    return lambda entry: entry.kind in _OUTPUT_KINDS and entry.source == container


async def write_all(descriptor: int, data: bytes) -> bool:
    """Write to a pipe as fast as it is read; return False once nobody will read it."""
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
    """Write the end of a call into its own pipe, which is empty and longer than that."""
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
    """Write recent entries to `output` until there are no more, or for as long as it is read.

    What is forgotten before the client has read it is missing, which the numbers show.
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
    """Write what a container writes from now on to the output of its kind, until it is over."""
    first = recent.following
    try:
        while entries := await _next_entries(recent, first, is_over):
            first = entries[-1].sequence + 1
            for entry in entries:
                if wanted(entry) and not await write_all(outputs[entry.kind], entry.data):
                    return
        write_end(end, CallEnd(result=encode_result(METHODS["attach"], ())))
    finally:
        for descriptor in (*outputs.values(), end):
            os.close(descriptor)


async def _next_entries(
    recent: RecentEntries, first: int, is_over: Callable[[], bool]
) -> tuple[Entry, ...]:
    """Wait for entries from number `first` on; none if there are no more and it is over."""
    while not (entries := recent.since(first, BATCH_BYTES)) and not is_over():
        recent.changed.clear()
        await recent.changed.wait()
    return entries


async def attend(process: Process, *, end: int) -> None:
    """Wait for a program that `exec` started and tell how it ended; it dies with the connection."""
    try:
        status = await process.wait()
        result = encode_result(METHODS["exec"], (status.code, status.signal))
        write_end(end, CallEnd(result=result))
    finally:
        os.close(end)
        # not waited for: what hangs in the kernel must not keep the connection's place from others
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
