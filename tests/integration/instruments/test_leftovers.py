"""What is said of children that tests leave behind."""

import os
import signal
import subprocess

import pytest

from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.process import spawn
from tests.integration.host.cgroups import made_cgroup
from tests.integration.host.containerd import Containerd, silent_containerd
from tests.integration.leftovers import (
    awaited,
    cgroup_roots,
    children,
    leaving_no_children,
    reaping_orphans,
    remove_dead_cgroups,
)
from tests.vm.guest.containers import own_cgroup

ENDED = ("/bin/true",)
RUNNING = ("/bin/sleep", "60")


def start(command: tuple[str, ...], *, is_ended: bool) -> int:
    """Start a program and let go of it; return its id, once it has ended if it is to."""
    pid = os.posix_spawn(command[0], command, {})
    if is_ended:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_every_test_is_watched(request: pytest.FixtureRequest) -> None:
    assert {"_no_child_is_left", "_orphans_are_reaped"} <= set(request.fixturenames)


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


def test_children_that_were_let_go_of_are_waited_for_and_no_others() -> None:
    with reaping_orphans():
        collected, owned, *let_go = (spawn(RUNNING, {}, {}) for _ in range(4))
        for child in (collected, *let_go):
            child.kill()
        os.waitid(os.P_PID, collected.pid, os.WEXITED | os.WNOWAIT)
        assert collected.collect() is not None
        for child in (collected, *let_go):
            child.disown()
    assert children().keys() & {owned.pid, *(child.pid for child in let_go)} == {owned.pid}
    owned.kill()
    assert str(EventLoop().run(owned.wait())) == "signal 9"


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


def test_no_folder_of_an_engine_outlives_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(containerd: Containerd) -> None:
        assert containerd.folder.is_dir()
        raise OSError(0, "did not start", str(containerd.folder))

    monkeypatch.setattr(Containerd, "start", refuse)
    with pytest.raises(OSError, match="did not start") as failed, silent_containerd():
        pass
    assert not os.path.lexists(failed.value.filename)


def test_cgroups_of_a_run_that_is_no_more_go_from_every_hierarchy() -> None:
    ended = start(ENDED, is_ended=True)
    os.waitpid(ended, 0)
    names = ("/ccinit-test-1", f"{own_cgroup()}-{ended}")  # no namespace has the first number
    dead = [root / f"{name[1:]}/pod" for root in cgroup_roots() for name in names]
    assert dead
    for folder in dead:
        folder.mkdir(parents=True)
    with made_cgroup() as ours:
        remove_dead_cgroups()
        assert not any(folder.parent.exists() for folder in dead)
        assert all((root / ours[1:]).exists() for root in cgroup_roots())
