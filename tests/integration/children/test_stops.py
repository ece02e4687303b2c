"""A child whose caller is stopped at each of its waits, or whose start the kernel refuses at each
call: no process and no descriptor stays.

Needs root, for the change of user, and a kernel with Landlock (ABI 6) and seccomp.
"""

import errno
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import Role
from ccinit.agent.processes.secret_pipes import open_secret_pipes
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.process import reap_orphans
from ccinit.secret import Secret
from tests.fakes.machine.failing_calls import each_failing_call
from tests.fakes.machine.interruptions import each_stop
from tests.fakes.machine.owned import owned_pids
from tests.fakes.machine.scarcity import count_descriptors
from tests.integration.children.harness import SECONDS, needs_root
from tests.integration.children.program import Continue, Halt, Order, Outcome

pytestmark = needs_root
GONE_SECONDS = 10.0


async def run(children: Children, _workspace: Path) -> None:
    """A job that has a secret and asks for a descriptor."""

    async def answer(_question: Halt) -> Answer:
        return Answer(value=Continue(), fds=(os.memfd_create("given"),))

    with Secret(b"key") as key:
        outcome = await children.run(
            Role.CONFIG,
            Order(deed="write_given_fd", text="a"),
            Outcome,
            seconds=SECONDS,
            secrets={"key": key},
            answers={Halt: answer},
        )
    assert outcome == Outcome()


async def prepare(children: Children, _workspace: Path) -> None:
    """Two children side by side, of which one is never used."""
    with Secret(b"key") as key:
        pipes = open_secret_pipes({"key": key})
        try:
            async with (
                children.prepare(Role.CONFIG, fds=pipes),
                children.prepare(Role.CONFIG, fds=pipes) as used,
            ):
                order = Order(deed="read_secret")
                outcome = await used.run(order, Outcome, seconds=SECONDS)
        finally:
            close_all(pipes.values())
    assert outcome.data == b"yek"


async def program(children: Children, workspace: Path) -> None:
    """A child that becomes a program."""
    end = await children.run_program(
        Role.FORMAT, ("-V",), seconds=SECONDS, workspace=str(workspace)
    )
    assert end.status.is_success()
    assert "mke2fs" in end.output


Flow = Callable[[Children, Path], Awaitable[None]]
each_flow = pytest.mark.parametrize("flow", [run, prepare, program])


@each_flow
def test_nothing_of_a_child_stays_wherever_its_caller_is_stopped(
    children: Children, workspace: Path, flow: Flow
) -> None:
    before = count_descriptors()

    async def once() -> None:
        await flow(children, workspace)

    for stop in each_stop():
        stop.verify(EventLoop().run(stop.attempt(once())))
        assert (owned_pids(), count_descriptors()) == ((), before), stop
        wait_for_the_last_child()


@each_flow
def test_call_that_the_kernel_refuses_is_what_the_caller_is_told(
    children: Children, workspace: Path, flow: Flow
) -> None:
    before = count_descriptors()

    async def once() -> None:
        await flow(children, workspace)

    for failing in each_failing_call(errno.EMFILE):
        failing.verify(failing.attempt(lambda: EventLoop().run(once())))
        assert (owned_pids(), count_descriptors()) == ((), before), failing
        wait_for_the_last_child()


def wait_for_the_last_child() -> None:
    """Collect as PID 1 does, which owns none of them any more."""
    end = time.monotonic() + GONE_SECONDS
    while time.monotonic() < end:
        reap_orphans()
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        time.sleep(0.01)
    raise AssertionError("a child stays")
