"""Role `index`: an erofs index over each tar of an image, a few at once.

mkfs.erofs takes one tar, and starts much faster than a child of ours, which an image of 60 layers
would need 60 times. So one child starts the program for each layer. The child itself reads nothing
that comes from the image. Each program runs in a process of its own, under the filter that every
program has (`PROGRAM`) on top of the child's, which differs only in that it lets the child start
programs.
"""

import os
from collections import deque

from ccinit.agent.processes.channel import CHANNEL_FD, printable
from ccinit.agent.processes.child import JobChannel
from ccinit.agent.processes.syscall_sets import PROGRAM
from ccinit.annotations import Never
from ccinit.errors import ChildError
from ccinit.kernel.seccomp import load_filter, plan_filter
from ccinit.pull.erofs.index import MKFS_EROFS, IndexReply, IndexRequest

AT_ONCE = 2
_CHUNK_BYTES = 1 << 16
_ERROR_MARK = b"<E>"
"""Begins an error message of mkfs.erofs, which then hangs if it is out of space (1.8.6)."""
_OUTPUT_BYTES = 512
_STANDARD_FDS = (1, 2)
_NOT_STARTED = 127


def run(request: IndexRequest, _channel: JobChannel) -> IndexReply:
    """Do the job.

    Raises:
        ChildError: `pull.index`, the first program that failed and what it said.
    """
    run_each(MKFS_EROFS, request.runs)
    return IndexReply()


def run_each(program: str, runs: tuple[tuple[str, ...], ...]) -> None:
    """Run `program` for each list of arguments; raises as `run`."""
    syscalls = plan_filter(PROGRAM)
    waiting, running = deque(runs), deque[tuple[int, int]]()
    while waiting or running:
        if waiting and len(running) < AT_ONCE:
            running.append(_start(program, waiting.popleft(), syscalls))
        else:
            _finish(program, *running.popleft())


def _start(program: str, arguments: tuple[str, ...], syscalls: bytes) -> tuple[int, int]:
    """Return the process id, and the descriptor to read its output from."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _become(program, arguments, syscalls, writer)
    os.close(writer)
    return pid, reader


def _become(program: str, arguments: tuple[str, ...], syscalls: bytes, output: int) -> Never:
    try:
        for number in _STANDARD_FDS:
            os.dup2(output, number, inheritable=False)  # calls dup3, which parsers may use, too
            os.set_inheritable(number, True)  # noqa: FBT003 (positional only)
        os.set_inheritable(CHANNEL_FD, False)  # noqa: FBT003 (positional only)
        load_filter(syscalls)
        os.execve(program, (program, *arguments), {})
    finally:
        os._exit(_NOT_STARTED)


def _finish(program: str, pid: int, reader: int) -> None:
    """Wait for the program to end; after an error message PID 1 kills it along with this child.

    Raises:
        ChildError: `pull.index`.
    """
    output = unseen = b""
    while data := os.read(reader, _CHUNK_BYTES):
        output = (output + data)[:_OUTPUT_BYTES]
        _, mark, text = (unseen + data).partition(_ERROR_MARK)
        if mark:
            raise _failure(program, "complains", (mark + text)[:_OUTPUT_BYTES])
        unseen = (unseen + data)[1 - len(_ERROR_MARK) :]  # may be the beginning of a mark
    os.close(reader)
    _pid, status = os.waitpid(pid, 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise _failure(program, f"exit code {code}" if code >= 0 else f"signal {-code}", output)


def _failure(program: str, how: str, output: bytes) -> ChildError:
    text = printable(output.decode("ascii", "replace"))
    return ChildError("pull.index", f"{program.rpartition('/')[2]}: {how}: {text}")
