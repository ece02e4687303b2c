"""Containers with all their limits, under the guest's kernel."""

import ctypes
import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccinit.formats.pod_container import Resources
from tests.vm.guest.containers import PROBE, container, run_as_pid1, supervise, workload

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x1000_0000
PR_SET_CHILD_SUBREAPER = 36
NO_LIMIT = Resources()
LIMITS = Resources(memory_bytes=64 << 20, pids=20, cpu_milli=500)
NAMESPACE_LIMIT = Path("/proc/sys/user/max_user_namespaces")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """An empty directory that containers of any user can pass through."""
    # PID 1 of the test guest is another program; containers must become children of this one
    assert LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    directory = Path("/run") / tmp_path.name
    directory.mkdir()
    # what ccinit.boot sets, beside the filter a second reason why no user namespace is made
    NAMESPACE_LIMIT.write_text("0")
    yield directory
    NAMESPACE_LIMIT.write_text("1000")
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def run(work: Path, *code: str, resources: Resources = NO_LIMIT) -> dict[str, Any]:
    """Run Python code in a container to its end."""
    given = workload(container(*code, resources=resources), work)
    report: dict[str, Any] = run_as_pid1(lambda: supervise(given, work))
    assert report["left"] == []
    assert report["children"] == []
    assert not Path("/sys/fs/cgroup/ccinit-test/probe").exists()
    return report


def oom_kills() -> int:
    """Return how many processes the kernel has killed for memory."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def test_r73_container_in_a_guest_has_its_limits_and_nothing_else(work: Path) -> None:
    # the refusals below are worth something only because the kernel has both
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    report = run(work, PROBE.read_text(), json.dumps([[], ["/x"]]), resources=LIMITS)
    assert report["crun"] == ""
    inside = json.loads(report["stdout"])
    assert inside["limits"] == {
        "/sys/fs/cgroup/memory.max": str(64 << 20),
        "/sys/fs/cgroup/memory.swap.max": "0",
        "/sys/fs/cgroup/memory.oom.group": "1",
        "/sys/fs/cgroup/pids.max": "20",
        "/sys/fs/cgroup/cpu.max": "50000 100000",
    }
    assert inside["open_files"] == [1024, 524_288]
    assert inside["sockets"]["vsock"] == "EAFNOSUPPORT"
    assert inside["sockets"]["alg"] == "EAFNOSUPPORT"
    assert inside["vsock_with_high_bits"] == "EAFNOSUPPORT"
    assert inside["calls"]["unshare_user"] == inside["calls"]["clone_user"] == "EPERM"
    assert inside["status"]["CapBnd"] == "0000000000000000"
    assert (inside["fds"], inside["writes"]) == ([0, 1, 2], {"/x": "EROFS"})


def test_user_namespaces_are_switched_off_for_those_without_a_filter(work: Path) -> None:
    assert work.exists()
    assert LIBC.unshare(CLONE_NEWUSER) == -1
    assert ctypes.get_errno() == errno.ENOSPC


def test_r74_container_that_forks_without_end_stops_at_its_limit(work: Path) -> None:
    code = (
        "import os, time\n"
        "count = 0\n"
        "while True:\n"
        "    try: pid = os.fork()\n"
        "    except BlockingIOError: break\n"
        "    if pid == 0: time.sleep(60)\n"
        "    count += 1\n"
        "print(count)\n"
    )
    report = run(work, code, resources=LIMITS)
    assert (report["state"], report["stdout"]) == ("done", "19\n")


def test_container_that_eats_memory_is_killed_and_the_guest_lives(work: Path) -> None:
    before = oom_kills()
    code = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
    report = run(work, code, resources=LIMITS)
    assert (report["state"], report["status"]) == ("failed", "signal 9")
    assert oom_kills() > before
