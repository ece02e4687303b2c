"""Real containerd and its shim with `ccinit-runtime` in runc's place, by `ctr run`.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The machines run nothing; whole
guests are `tests/vm/test_containerd_guests`'.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.documents.oci_bundles import INITDATA, encode_annotation, make_document
from tests.integration.host.containerd import Containerd, silent_containerd

DOCUMENT = {INITDATA: encode_annotation(make_document())}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Containerd]:
    with silent_containerd() as containerd:
        yield containerd


@pytest.fixture
def containerd(daemon: Containerd) -> Iterator[Containerd]:
    yield daemon
    daemon.remove_all()
    assert daemon.containers == []


def run(containerd: Containerd, name: str, *options: str) -> int:
    """Run a guest; return the id of its process."""
    done = containerd.run_guest(name, *options, **DOCUMENT)
    assert done.returncode == 0, done.stderr
    pid, status = containerd.task(name)
    assert status == "RUNNING"
    return pid


def qemu_of(pid: int) -> int:
    (found,) = (
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
        if b"qemu-system-x86_64" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    return found


def test_container_lives_as_containerd_wishes(containerd: Containerd) -> None:
    pid = run(containerd, "a", "--memory-limit", "67108864", "--cpus", "1")
    assert re.search(rf"^{pid}\b", containerd("tasks", "ps", "a"), re.MULTILINE)
    for refused, reason in (
        (("tasks", "exec", "--exec-id", "x", "a", "true"), "command.refused"),
        (("tasks", "pause", "a"), "command.refused"),
        (("tasks", "kill", "--signal", "HUP", "a"), "container.signal"),
    ):
        done = containerd.run(*refused)
        assert done.returncode
        assert f"[{reason}]" in done.stderr
    containerd("tasks", "kill", "--signal", "TERM", "a")  # of a guest that does not listen
    assert containerd.task("a") == (pid, "RUNNING")

    containerd("tasks", "kill", "--signal", "KILL", "a")
    containerd.wait_for("a", "STOPPED")
    assert containerd.delete("a") == 128 + signal.SIGKILL
    assert containerd.containers == []
    assert "starting QEMU" in containerd.said("a").read_text()
    assert list(containerd.sealed_logs.iterdir()) == []  # it had nothing to say


def test_machine_that_dies_is_a_task_that_failed(containerd: Containerd) -> None:
    os.kill(qemu_of(run(containerd, "b")), signal.SIGKILL)
    containerd.wait_for("b", "STOPPED")
    assert containerd.delete("b") == 1


def test_guest_outlives_a_restart_of_containerd(containerd: Containerd) -> None:
    """containerd asks each shim for its processes then, and removes a container without any."""
    pid = run(containerd, "c")
    containerd.stop()
    containerd.start()
    assert containerd.task("c") == (pid, "RUNNING")
    assert qemu_of(pid)
    containerd("tasks", "kill", "--signal", "KILL", "c")
    containerd.wait_for("c", "STOPPED")


def test_guest_ends_with_a_shim_that_is_killed(containerd: Containerd) -> None:
    pid = run(containerd, "d")
    qemu = qemu_of(pid)
    os.kill(containerd.shim("d"), signal.SIGKILL)
    deadline = time.monotonic() + 90
    while Path(f"/proc/{qemu}").exists() or containerd.containers:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert containerd.task("d") == (0, "")


def test_killing_all_of_what_has_ended_is_no_error(containerd: Containerd) -> None:
    """As the shim does with a container that has no PID namespace of its own."""
    run(containerd, "e", "--with-ns", "pid:/proc/self/ns/pid")
    containerd("tasks", "kill", "--signal", "KILL", "e")
    containerd.wait_for("e", "STOPPED")
    containerd.delete("e")
    assert "failed to kill init's children" not in containerd.log


@pytest.mark.parametrize(
    ("options", "annotations", "reason"),
    [
        ((), {}, "annotation.initdata"),
        ((), {**DOCUMENT, "org.ccinit.image": "other"}, "runtime.image"),
        ((), {**DOCUMENT, "org.ccinit.vcpus": "2"}, "annotation.denied"),
        ((), {**DOCUMENT, "org.ccinit.kernel": "/k"}, "annotation.unknown"),
        (("--device", "/dev/zero"), DOCUMENT, "bundle.devices"),
        (("--privileged",), DOCUMENT, "bundle.devices"),
        (("--with-ns", "network:/dev/zero"), DOCUMENT, "bundle.network"),
    ],
)
def test_container_that_no_guest_can_be_is_refused_in_words(
    containerd: Containerd,
    options: tuple[str, ...],
    annotations: dict[str, str],
    reason: str,
) -> None:
    done = containerd.run_guest("bad", *options, **annotations)
    assert done.returncode
    assert f"[{reason}]" in done.stderr
    assert containerd.containers == []
