"""PID 1's access to the platform: the open files that a child needs to make evidence.

A child of the roles `evidence` and `measure` gets named descriptors, never a path. The table in
`ccinit.attest.detect` says which files these are on each platform; the jobs use them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from ccinit.agent.guest import Guest
from ccinit.agent.processes.conversation import Answers
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Platform
from ccinit.errors import PeerError
from ccinit.kernel.clock import boottime
from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import open_path

R = TypeVar("R")

MAX_REQUESTS = 16
_CHANGED = "tee.generation"


async def run_on_platform(
    guest: Guest,
    platform: Platform,
    role: Role,
    request: object,
    reply: type[R],
    *,
    report_data: bytes,
    seconds: float,
    answers: Answers | None = None,
) -> R:
    """Run a job on the platform's devices, retrying while others disturb its report request.

    Args:
        guest: whose children do the job.
        platform: whose devices the job gets.
        role: the row of rights.
        request: what the job takes.
        reply: what it returns.
        report_data: what the report has to carry, on platforms where PID 1 requests it.
        seconds: for all attempts together.
        answers: answer the job's questions.

    Raises:
        PeerError: `tee.generation`, each of 16 requests was disturbed, or every one until the time
            was up.
        CcinitError: what the job raises.
    """
    end = boottime() + seconds
    attempts = 0
    while True:
        attempts += 1
        try:
            with open_platform(platform, report_data) as fds:
                return await guest.children.run(
                    role, request, reply, seconds=end - boottime(), fds=fds, answers=answers
                )
        except PeerError as error:
            if error.reason != _CHANGED or attempts == MAX_REQUESTS or boottime() >= end:
                raise


@contextmanager
def open_platform(platform: Platform, report_data: bytes) -> Iterator[Mapping[str, int]]:
    """Hold the platform's files open for a child; yields their descriptors by name.

    Raises:
        KernelError: `kernel.open`, `kernel.tsm_…`.
    """
    with ExitStack() as stack:
        fds = {
            node.name: stack.enter_context(
                Descriptor(open_path(node.path, os.O_RDWR if node.writable else os.O_RDONLY))
            )
            for node in platform.nodes
        }
        if platform.open_report is not None:
            fds |= stack.enter_context(platform.open_report(report_data))
        yield fds
