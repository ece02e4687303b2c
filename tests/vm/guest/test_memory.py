"""Memory runs out: the process that takes it is killed, and the one in PID 1's place lives."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.formats.disk.integrity import SUPERBLOCK_BYTES
from ccinit.kernel.block import read_direct, write_direct
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.dm import DmControl
from ccinit.kernel.resource_limits import OOM_SCORE_ADJ_MIN, write_oom_score
from ccinit.secret import Secret
from ccinit.unlock.integrity import MetaDevice, plan_memory_layout
from ccinit.unlock.stack import activate_stack
from tests.vm.guest.disks import disk

MIB = 1 << 20
STRIDE = 512 << 10
"""One page of tags is for as much of the disk."""
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
    hog = start_hog(group)
    hog.communicate()
    return hog.returncode


def start_hog(group: Cgroup) -> subprocess.Popen[bytes]:
    """Have a process of the pod take memory from now on."""
    hog = subprocess.Popen(("/usr/bin/python3.13", "-I", "-S", "-c", HOG), stdin=subprocess.PIPE)
    group.add(hog.pid)
    Path(f"/proc/{hog.pid}/oom_score_adj").write_text("0")
    assert hog.stdin is not None
    hog.stdin.write(b"x")
    hog.stdin.flush()
    return hog


def test_r74_hog_is_killed_at_the_limit_of_its_pod(pod: Cgroup) -> None:
    pod.set_memory(max_bytes=48 * MIB)
    assert run_hog(pod) == -signal.SIGKILL
    assert pod.oom_kills() == 1


def test_r74_hog_is_killed_before_pid_1_when_the_guest_is_full(pod: Cgroup) -> None:
    write_oom_score(OOM_SCORE_ADJ_MIN)
    try:
        assert Path("/proc/self/oom_score_adj").read_text() == "-1000\n"
        assert run_hog(pod) == -signal.SIGKILL
        assert pod.oom_kills() == 1
    finally:
        write_oom_score(0)


def test_r46_tags_for_which_memory_runs_out_cost_the_pod_and_no_block(pod: Cgroup) -> None:
    """Each block here makes brd take a page: it waits for one until the hog is gone."""
    device = disk("big")
    ram = MetaDevice(node="/dev/ram1", number="1:1")
    layout = plan_memory_layout(device.size_bytes, ram)
    write_direct(ram.node, 0, bytes(SUPERBLOCK_BYTES))
    write_oom_score(OOM_SCORE_ADJ_MIN)
    try:
        with DmControl() as control:
            stack = activate_stack(control, "raw", device, layout, Secret(bytes(range(96))))
            try:
                hog, written = start_hog(pod), 0
                while hog.poll() is None or written < 64:
                    write_direct(stack.node, written * STRIDE, number(written))
                    written += 1
                hog.communicate()
                assert hog.returncode == -signal.SIGKILL
                for index in range(written):
                    assert read_direct(stack.node, index * STRIDE, 4096) == number(index)
            finally:
                stack.close()
    finally:
        write_oom_score(0)
    print(f"{written} blocks were written meanwhile")


def number(index: int) -> bytes:
    return index.to_bytes(8, "big") * 512


def test_guest_has_no_swap() -> None:
    assert len(Path("/proc/swaps").read_text().splitlines()) == 1
