"""What a question leaves behind, with a program of the machine in the place of a container's."""

import os
import signal

import pytest

from ccinit.formats.pod.probe import Probe
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.process import Process, spawn
from ccinit.run.probe import asking
from ccinit.values import replace
from tests.fakes.machine.owned import owned_pids
from tests.fakes.machine.scarcity import count_descriptors

PROBE = Probe(exec=(), tcp_port=0, delay_seconds=0, period_seconds=1, timeout_seconds=60)


@pytest.mark.parametrize(
    ("arguments", "seconds", "answer"),
    [(("/bin/true",), 60, True), (("/bin/false",), 60, False), (("/bin/sleep", "100"), 1, False)],
)
def test_question_leaves_no_descriptor_behind_however_it_ends(
    arguments: tuple[str, ...], seconds: int, *, answer: bool
) -> None:
    """A probe that never answers in time is asked for as long as the pod lives."""
    started: list[Process] = []

    async def execute(
        arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        started.append(spawn(arguments, {}, {0: stdin, 1: stdout, 2: stderr}))
        return started[0]

    async def ask() -> bool:
        probe = replace(PROBE, exec=arguments, timeout_seconds=seconds)
        return await asking(execute, "", pytest.fail)(probe)

    before = count_descriptors()
    assert EventLoop().run(ask()) is answer
    (program,) = started
    assert count_descriptors() == before
    assert program.pid not in owned_pids()
    if program.status is None:  # for whoever reaps orphans
        assert os.waitpid(program.pid, 0) == (program.pid, signal.SIGKILL)
