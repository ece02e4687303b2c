"""Memory running out: whoever takes it all is killed, and the process that PID 1 would be lives."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.resource_limits import protect_from_oom, write_oom_score

MIB = 1 << 20
HOG = """
import sys
sys.stdin.read(1)
taken = []
while True:
    taken.append(bytearray(1 << 20))
"""


@pytest.fixture
def pod() -> Iterator[Cgroup]:
    root = Cgroup()
    root.enable(("memory", "pids"))
    group = root.create("test-pod")
    yield group
    group.kill()
    group.remove()


def run_hog(group: Cgroup) -> int:
    """Let a process of the pod take memory until it ends; return how it ended."""
    hog = subprocess.Popen(("/usr/bin/python3.13", "-I", "-S", "-c", HOG), stdin=subprocess.PIPE)
    group.add(hog.pid)
    write_oom_score(0, hog.pid)
    hog.communicate(b"x")
    return hog.returncode


def test_r74_hog_is_killed_at_the_limit_of_its_pod(pod: Cgroup) -> None:
    pod.set_memory(most_bytes=48 * MIB)
    assert run_hog(pod) == -signal.SIGKILL
    assert pod.oom_kills() == 1


def test_r74_hog_is_killed_before_pid_1_when_the_guest_is_full(pod: Cgroup) -> None:
    protect_from_oom()
    try:
        assert Path("/proc/self/oom_score_adj").read_text() == "-1000\n"
        assert run_hog(pod) == -signal.SIGKILL
        assert pod.oom_kills() == 1
    finally:
        write_oom_score(0)


def test_guest_has_no_swap() -> None:
    assert len(Path("/proc/swaps").read_text().splitlines()) == 1
