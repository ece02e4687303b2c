"""Parts of a container's machine that are killed or hang: what is told, and what can be removed.

As `test_oci_runtime`: needs the tools tree, and the machines run nothing.
"""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.integration.host.bare_engine import (
    Engine,
    children_of,
    end,
    is_running,
    qemu_of,
    reap,
)


def test_machine_that_dies_fails_its_container(engine: Engine) -> None:
    pid = engine.create("a")
    engine.done("start", "a")
    assert end(pid, lambda: os.kill(qemu_of(pid), signal.SIGKILL)) == 1
    assert engine.state("a")["status"] == "stopped"


def test_end_of_a_guest_is_told_though_somebody_has_removed_its_folder(engine: Engine) -> None:
    pid = engine.create("a")
    log = engine.stderr
    shutil.rmtree(engine.folder / "state/a/guest")
    assert end(pid, lambda: os.kill(qemu_of(pid), signal.SIGTERM)) == 1
    assert log.read_text().endswith("ended: host-signal; exit status 1\n")


def test_vsock_device_that_is_killed_is_told_in_the_containers_log(engine: Engine) -> None:
    """Nobody reaches the guest from here any more, but it goes on."""
    pid = engine.create("a")
    log = engine.stderr
    (device,) = (child for child, words in children_of(pid).items() if b"vsock.device" in words)
    os.kill(device, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while "the vsock device ended with -9: the guest goes on" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert engine.state("a")["status"] == "created"
    engine.done("delete", "--force", "a")
    assert reap(pid) == -signal.SIGKILL


def test_deletion_waits_for_a_machine_that_outlives_its_life(engine: Engine) -> None:
    pid = engine.create("a")
    qemu, children = qemu_of(pid), children_of(pid)
    os.kill(qemu, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == -signal.SIGKILL
    assert engine.state("a")["status"] == "stopped"
    began = time.monotonic()
    threading.Timer(1.0, os.kill, (qemu, signal.SIGCONT)).start()
    engine.done("delete", "a")  # as of an engine that restarts: the disks are free by then
    assert time.monotonic() - began > 1.0
    for child in children:
        reap(child)


def test_every_process_of_a_machine_holds_its_lock(engine: Engine) -> None:
    """So what is deleted has ended: the vTPM, whose state the next guest wants, last of all."""
    file = engine.folder / "runtime.toml"
    more = f'"tcg", "--tpm", "{engine.folder}/tpm", "--kbs", "127.0.0.1:1"'
    file.write_text(file.read_text().replace('"tcg"', more))
    children = children_of(engine.create("a"))
    assert len(children) == 4  # QEMU, its vTPM, the vsock device and the relay
    lock = engine.folder / "state/a/machine"
    for child in children:
        opened = [path.readlink() for path in Path(f"/proc/{child}/fd").iterdir()]
        assert lock in opened, children[child]


@pytest.mark.parametrize("part", ["qemu-system-x86_64", "host_runtime.vsock.device"])
def test_deletion_kills_a_machine_that_does_not_end_with_its_life(
    part: str, engine: Engine
) -> None:
    """Stopped, or waiting for storage or for a process that hangs, it takes no other signal."""
    pid = engine.create("a")
    other = engine.create("b")
    children = children_of(pid)
    (stopped,) = (child for child, words in children.items() if part.encode() in words)
    os.kill(stopped, signal.SIGSTOP)
    at_once = (
        "from host_runtime.oci_runtime import cli, lifecycle;"
        "lifecycle._MACHINE_SECONDS = 0; raise SystemExit(cli.main())"
    )
    assert engine.run("delete", "--force", "a", program=("-c", at_once)) == 0, engine.said()
    assert not any(is_running(child) for child in (pid, *children))
    assert reap(pid) == reap(stopped) == -signal.SIGKILL
    for child in children.keys() - {stopped}:
        reap(child)
    assert engine.state("b")["pid"] == other
    assert end(other, lambda: engine.done("delete", "-f", "b")) == -signal.SIGKILL
