"""Containers in cgroups that systemd makes: a real systemd, PID 1 of the test guest.

The life enters its cgroup as `supervisor` does; what comes then is the same as with a path, and is
in `tests/integration/host/test_container_cgroup.py`, with QEMU.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_cgroup import leave_no_cgroup
from host_runtime.oci_runtime.container_state import ContainerRecord
from tests.vm.guest.under_systemd.scope_life import USED_BYTES

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20
GUEST_MIB = 64
POD = "kubepods-burstable-pod1_2.slice"
OF_POD = f"kubepods.slice/kubepods-burstable.slice/{POD}"
MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)

Begin = Callable[..., "Life"]


class Life:
    """A container with the process that is its life."""

    def __init__(self, folder: Path, record: ContainerRecord, guest_mib: int, user: int) -> None:
        folder.mkdir()
        self.container = Container(folder=folder)
        self.container.write(record)
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, user)
        self._process = subprocess.Popen(
            (
                sys.executable,
                "-m",
                "tests.vm.guest.under_systemd.scope_life",
                folder,
                str(guest_mib),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user,
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline().strip()
        self.pid = self._process.pid

    @property
    def reason(self) -> str:
        """Why it has not entered its cgroup."""
        return self.said.partition(" ")[0]

    def cgroups(self) -> set[str]:
        """Return where it is, and its child."""
        found = {Path(f"/proc/{pid}/cgroup").read_text().strip() for pid in (self.pid, self.said)}
        return {line.removeprefix("0::/") for line in found}

    def kill(self) -> None:
        """End it; its child ends by itself."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with ExitStack() as stack:

        def begin(
            name: str, cgroup: str, *, guest_mib: int = GUEST_MIB, user: int = 0, **fields: Any
        ) -> Life:
            record = ContainerRecord(
                id=name, bundle="/", annotations={}, created="", cgroup=cgroup, **fields
            )
            life = Life(tmp_path / name, record, guest_mib, user)
            stack.callback(life.kill)
            return life

        yield begin


def limit_of(limit: int) -> dict[str, Any]:
    return {"memory": {"limit": limit}}


def make_slice(name: str, limit: int) -> None:
    """Make a slice with a limit, as a kubelet makes a Pod's."""
    of_limit = ("1", "MemoryMax", "t", str(limit))
    call = ("busctl", "call", *MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))")
    subprocess.run((*call, name, "fail", *of_limit, "0"), check=True, capture_output=True)


def knows(unit: str) -> bool:
    """Whether systemd has such a unit."""
    call = ("busctl", "call", *MANAGER, "GetUnit", "s", unit)
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode == 0 or "not loaded" in done.stderr
    return done.returncode == 0


def oom_policy_of(unit: str) -> str:
    """What systemd does with the rest of a scope after an OOM kill in it."""
    get = ("busctl", "--json=short", "call", *MANAGER, "GetUnit", "s", unit)
    path = json.loads(subprocess.run(get, check=True, capture_output=True).stdout)["data"][0]
    read = ("busctl", "--json=short", "get-property", MANAGER[0], path)
    done = subprocess.run(
        (*read, "org.freedesktop.systemd1.Scope", "OOMPolicy"), check=True, capture_output=True
    )
    return str(json.loads(done.stdout)["data"])


def test_container_is_in_the_scope_that_its_engine_names_until_it_is_deleted(begin: Begin) -> None:
    life = begin("a", f"{POD}:cri-containerd:3c9a")
    scope = ROOT / OF_POD / "cri-containerd-3c9a.scope"
    assert life.cgroups() == {str(scope.relative_to(ROOT))}
    for folder in (scope, scope.parent, scope.parents[2]):
        assert int((folder / "memory.current").read_text()) >= USED_BYTES
    assert {"cpu", "memory", "pids"} <= set((scope / "cgroup.controllers").read_text().split())
    assert (scope / "memory.max").read_text() == "max\n"
    assert knows(scope.name)
    assert oom_policy_of(scope.name) == "continue"
    life.kill()
    leave_no_cgroup(life.container)
    assert not scope.exists()
    assert not knows(scope.name)
    again = begin("b", f"{POD}:cri-containerd:3c9a")
    assert again.cgroups() == {str(scope.relative_to(ROOT))}


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (":docker:a", "system.slice/docker-a.scope"),
        ("machine.slice::a", "machine.slice/a.scope"),
        ("-.slice:libpod:a", "libpod-a.scope"),
    ],
)
def test_slice_and_prefix_may_be_left_out(begin: Begin, cgroup: str, expected: str) -> None:
    assert begin("a", cgroup).cgroups() == {expected}


def test_limit_of_the_bundle_is_that_of_the_scope(begin: Begin) -> None:
    life = begin("a", "l.slice:c:a", resources=limit_of(2 * GUEST_MIB * MIB))
    (path,) = life.cgroups()
    assert int((ROOT / path / "memory.max").read_text()) == 2 * GUEST_MIB * MIB


def test_limit_below_the_guests_memory_is_refused_before_there_is_a_scope(begin: Begin) -> None:
    life = begin("a", "m.slice:c:a", resources=limit_of(GUEST_MIB * MIB - MIB))
    assert life.reason == "cgroup.memory"
    assert f"may use {GUEST_MIB - 1} MiB" in life.said
    assert not (ROOT / "m.slice").exists()
    leave_no_cgroup(life.container)


def test_limit_of_a_slice_above_counts(begin: Begin) -> None:
    make_slice("few.slice", GUEST_MIB * MIB - MIB)
    make_slice("many.slice", 2 * GUEST_MIB * MIB)
    # That of the slice above is applied as the one below is made.
    for above in ("few.slice", "few-pod.slice"):
        life = begin(above, f"{above}:c:a")
        assert life.reason == "cgroup.memory", life.said
    assert begin("many", "many-pod.slice:c:a").cgroups() == {"many.slice/many-pod.slice/c-a.scope"}


def test_limit_of_a_slice_that_systemd_makes_meanwhile_counts(begin: Begin) -> None:
    units = Path("/run/systemd/system")
    for name, limit in (("late", GUEST_MIB * MIB - MIB), ("later", 2 * GUEST_MIB * MIB)):
        (units / f"{name}.slice").write_text(f"[Slice]\nMemoryMax={limit}\n")
    life = begin("a", "late.slice:c:a")
    assert life.reason == "cgroup.memory"
    assert "late.slice may use" in life.said
    life.kill()
    leave_no_cgroup(life.container)
    assert not (ROOT / "late.slice/c-a.scope").exists()
    assert not knows("c-a.scope")  # so the engine may try again at once
    assert begin("b", "later.slice:c:a").cgroups() == {"later.slice/c-a.scope"}


def test_limit_is_not_meant_for_a_process_that_waits(begin: Begin) -> None:
    life = begin("a", "w.slice:c:a", guest_mib=0, member="web", resources=limit_of(MIB))
    assert life.cgroups() == {"w.slice/c-a.scope"}


def test_scope_of_another_container_is_taken(begin: Begin) -> None:
    first = begin("a", "t.slice:c:a")
    second = begin("b", "t.slice:c:a")
    assert second.reason == "cgroup.taken"
    leave_no_cgroup(second.container)  # nothing of it, and so without waiting for the other
    assert first.cgroups() == {"t.slice/c-a.scope"}


def test_deletion_waits_for_others_in_the_scope_and_says_so(begin: Begin) -> None:
    life = begin("a", "b.slice:c:a")
    scope = ROOT / "b.slice/c-a.scope"
    with subprocess.Popen(("/usr/bin/python3.13", "-c", "input()"), stdin=subprocess.PIPE) as other:
        (scope / "cgroup.procs").write_text(str(other.pid))
        life.kill()
        with pytest.raises(CcinitError, match=scope.name) as error:
            leave_no_cgroup(life.container)
        assert error.value.reason == "cgroup.busy"
        assert other.poll() is None
        other.send_signal(signal.SIGKILL)
    leave_no_cgroup(life.container)
    assert not scope.exists()


def test_what_systemd_refuses_is_refused_in_its_words(begin: Begin) -> None:
    first = begin("a", "r.slice:c:once")
    second = begin("b", "elsewhere.slice:c:once")  # a unit's name counts wherever it is
    assert second.reason == "cgroup.systemd"
    assert "does not make c-once.scope: busctl ended with 1" in second.said
    assert "already loaded" in second.said
    leave_no_cgroup(second.container)
    assert first.cgroups() == {"r.slice/c-once.scope"}


def test_systemd_is_not_asked_for_a_user(begin: Begin, tmp_path: Path) -> None:
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    tmp_path.chmod(0o755)
    life = begin("a", "user.slice:libpod:a", user=1000)
    assert life.reason == "cgroup.systemd"
    assert "only root's containers" in life.said
    assert not knows("libpod-a.scope")
    assert begin("b", "user.slice:libpod:a").cgroups() == {"user.slice/libpod-a.scope"}
