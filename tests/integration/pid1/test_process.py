"""Who owns which child, as the kernel has them."""

import os

from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.process import Process, spawn
from tests.fakes.machine.owned import owned_pids


def test_letting_go_of_a_collected_child_leaves_the_next_one_with_its_pid_owned() -> None:
    first = spawn(("/bin/true",), {}, {})
    os.waitid(os.P_PIDFD, first.pidfd, os.WEXITED | os.WNOWAIT)
    assert first.collect() is not None
    second = Process(first.pid, os.dup(first.pidfd))  # as if the kernel had reused the number
    try:
        first.disown()
        assert owned_pids() == (second.pid,)
    finally:
        second.disown()


def test_child_that_was_waited_for_can_be_let_go_of() -> None:
    child = spawn(("/bin/true",), {}, {})
    assert EventLoop().run(child.wait()).is_success()
    child.disown()
    assert child.pidfd < 0
    assert owned_pids() == ()
