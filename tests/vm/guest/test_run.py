"""Containers with all their limits, under the guest's kernel."""

import ctypes
import errno
import json
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ccinit.agent.guest import assemble
from ccinit.agent.phases.pod import ask_user_child
from ccinit.agent.phases.pod_namespaces import share_namespaces
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.formats.pod.container import Resources
from ccinit.formats.pod.seccomp import Seccomp
from ccinit.formats.pod.share import Share
from ccinit.kernel.cgroup import Cgroup
from ccinit.kernel.event_loop import EventLoop, TaskGroup, sleep
from ccinit.kernel.process import reap_orphans
from tests.vm.guest.containers import (
    PROBE,
    PYTHON,
    Record,
    container,
    own_cgroup,
    run_as_pid1,
    summary,
    supervise,
    supervisor,
    workload,
)

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x1000_0000
PR_SET_CHILD_SUBREAPER = 36
NO_LIMIT = Resources()
LIMITS = Resources(memory_bytes=64 << 20, pids=20, cpu_milli=500)
REPLACED = Path(__file__).with_name("replaced")
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
    assert not Path(f"/sys/fs/cgroup{own_cgroup()}/probe").exists()
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


def test_container_without_a_limit_of_its_own_ends_whole_at_the_pods(work: Path) -> None:
    """Else it would go on without those of its processes that the kernel has chosen."""
    code = (
        "import os\n"
        "kept = []\n"
        "if os.fork() == 0:\n"
        "    while True: kept.append(bytearray(1 << 20))\n"
        "os.wait()\n"
        "print('alone')"
    )
    Cgroup().enable(("memory",))
    pod = Cgroup().create(own_cgroup().lstrip("/"))
    pod.set_memory(max_bytes=64 << 20)
    try:
        report = run(work, code)
    finally:
        pod.set_memory()
    assert (report["state"], report["status"], report["stdout"]) == ("failed", "signal 9", "")
    assert any("out of memory" in event for event in report["events"])


def test_container_of_user_0_cannot_have_the_kernel_say_more_in_its_log(work: Path) -> None:
    """More than can be read in time is lost, and by `on_storage_error` may be the guest's end."""
    path = "/proc/dynamic_debug/control"
    assert Path(path).stat().st_mode & 0o200  # user 0 needs no capability for it
    code = (
        "import os\n"
        f"try: os.open('{path}', os.O_WRONLY)\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    given = workload(container(code, user="0"), work)
    report = run_as_pid1(lambda: supervise(given, work))
    assert report["stdout"] == "FileNotFoundError\n", report["stderr"]


EATER = (
    "import os, time\n"
    "if os.fork() == 0: os.setsid(); time.sleep(600)\n"
    "open('/dev/shm/eating', 'w').close()\n"
    "kept = []\n"
    "while True: kept.append(bytearray(1 << 20))\n"
)
NEIGHBOUR = (
    "import json, os, time\n"
    "from pathlib import Path\n"
    "def others():\n"
    "    pids = {int(path.name) for path in Path('/proc').glob('[0-9]*')}\n"
    "    return pids - {1, os.getpid()}\n"
    "while not Path('/dev/shm/eating').exists(): time.sleep(0.05)\n"
    "while others(): time.sleep(0.05)\n"
    "first = Path('/proc/1/status').read_text().split('Uid:')[1].split()[0]\n"
    "mounts = Path('/proc/1/mounts').read_text()\n"
    "count = 0\n"
    "while True:\n"
    "    try: pid = os.fork()\n"
    "    except BlockingIOError: break\n"
    "    if pid == 0: time.sleep(600)\n"
    "    count += 1\n"
    "print(json.dumps([count, first, mounts, os.getpid() > 1, len(others())]))\n"
)


def run_sharing(work: Path, programs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Run containers by name that share what there is to share, each to its end."""
    loop = EventLoop()
    children = Children((PYTHON, "-m", "ccinit"), {"PYTHONPATH": f"/src:/site:{REPLACED}"})
    guest = assemble(loop, bytes(16)).with_children(children)

    async def reap() -> None:
        while True:
            reap_orphans()
            await sleep(0.01)

    async def live() -> dict[str, dict[str, Any]]:
        loop.start(reap(), "reaper of orphans")
        shared = await share_namespaces(guest, Share(ipc=True, process=True), f"{work}/shared")
        made, records = {}, {name: Record() for name in programs}
        for name, program in programs.items():
            given = workload(
                container(program, name=name, resources=LIMITS),
                work,
                scratch=f"{work}/scratch-{name}",
                run_dir=f"{work}/run-{name}",
                cgroup_path=f"{own_cgroup()}/{name}",
                shared=shared,
            )
            made[name] = supervisor(given, work, records[name], partial(ask_user_child, children))
        async with TaskGroup() as group:
            for name, one in made.items():
                group.start(one.run(), name)
        assert await guest.teardown.run() == ()
        return {name: summary(made[name], work, records[name]) for name in made}

    return loop.run(live())


def test_containers_that_share_have_their_own_limits_and_their_own_ends(work: Path) -> None:
    found = run_sharing(work, {"eater": EATER, "neighbour": NEIGHBOUR})
    eater, neighbour = found["eater"], found["neighbour"]
    assert (eater["state"], eater["status"]) == ("failed", "signal 9")
    assert (neighbour["state"], neighbour["status"]) == ("done", "exit code 0")
    uid = str(RIGHTS[Role.REAPER].uid)
    assert json.loads(neighbour["stdout"]) == [19, uid, "", True, 19]
    assert neighbour["children"] == []
    for name in found:
        assert not Path(f"/sys/fs/cgroup{own_cgroup()}/{name}").exists()


def test_container_calls_what_its_manifest_allows_under_the_guests_kernel(work: Path) -> None:
    code = (
        "import ctypes, errno, json\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(number, *arguments):\n"
        "    ctypes.set_errno(0)\n"
        "    if libc.syscall(number, *arguments) >= 0: return 'ok'\n"
        "    return errno.errorcode[ctypes.get_errno()]\n"
        "print(json.dumps([call(159, ctypes.create_string_buffer(256)), call(41, 2, 1, 0),\n"
        "    call(41, 40, 1, 0)]))\n"
    )

    def calls(changes: Seccomp) -> list[str]:
        of = container(code, seccomp=changes)
        given = workload(of, work, scratch=f"{work}/{len(changes.allow)}")
        report = run_as_pid1(lambda: supervise(given, work))
        found: list[str] = json.loads(str(report["stdout"]))
        return found

    assert calls(Seccomp()) == ["EPERM", "ok", "EAFNOSUPPORT"]
    assert calls(Seccomp(allow=("adjtimex",), deny=("socket",))) == ["ok", "EPERM", "EPERM"]
