"""What is said of children that tests leave behind."""

import os
import signal
import subprocess

import pytest

from tests.integration.leftovers import (
    awaited,
    children,
    leaving_no_children,
    reaping_orphans,
)

ENDED = ("/bin/true",)
RUNNING = ("/bin/sleep", "60")


def start(command: tuple[str, ...], *, is_ended: bool) -> int:
    """Start a program and let go of it; return its id, once it has ended if it is to."""
    pid = os.posix_spawn(command[0], command, {})
    if is_ended:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_every_module_is_watched(request: pytest.FixtureRequest) -> None:
    assert "_no_child_is_left" in request.fixturenames


@pytest.mark.parametrize(
    ("command", "is_ended", "told"), [(ENDED, True, "true, Z"), (RUNNING, False, "sleep, ")]
)
def test_child_that_nobody_waited_for_is_told_and_ended(
    command: tuple[str, ...], *, is_ended: bool, told: str
) -> None:
    with pytest.raises(AssertionError) as left, leaving_no_children():
        pid = start(command, is_ended=is_ended)
    assert f"{{{pid}: '{told}" in str(left.value)
    assert pid not in children()


def test_children_that_were_waited_for_and_those_from_before_are_none_of_it() -> None:
    with subprocess.Popen(RUNNING) as before:
        ended = start(ENDED, is_ended=True)
        with leaving_no_children():
            subprocess.run(ENDED, check=True)
        assert before.poll() is None
        assert children()[ended] == "true, Z"
        assert os.waitpid(ended, 0) == (ended, 0)
        before.kill()


def test_orphans_are_waited_for_and_no_others() -> None:
    before = start(ENDED, is_ended=True)
    with reaping_orphans():
        one = start(RUNNING, is_ended=False)
        os.kill(one, signal.SIGKILL)
        another = start(ENDED, is_ended=True)
    assert not {one, another} & children().keys()
    assert os.waitpid(before, 0) == (before, 0)


def test_process_of_a_block_that_fails_is_not_waited_for_in_vain() -> None:
    with (
        pytest.raises(KeyError),
        awaited(subprocess.Popen(("/bin/sleep", "3600"))) as process,
    ):
        raise KeyError
    assert process.returncode == -signal.SIGKILL
    with awaited(subprocess.Popen(ENDED)) as process:
        pass
    assert process.returncode == 0
