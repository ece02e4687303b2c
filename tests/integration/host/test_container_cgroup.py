"""Host processes of a guest in the cgroup that its bundle names, with real cgroups and QEMU.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The machines run nothing.
"""

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_runtime.oci_runtime.cgroup import _CPU_SETS, _Walk, find_hierarchies, make_cgroup
from host_runtime.oci_runtime.cgroup_path import parse_cgroup_path
from host_runtime.oci_runtime.pod_part import CONTAINER_NAME, CONTAINER_TYPE, SANDBOX_ID
from tests.fakes.documents.oci_bundles import INITDATA, podman_config
from tests.integration.host.bare_engine import DOCUMENT, Engine, open_engine, reap
from tests.integration.host.cgroups import (
    bytes_in,
    folders_of,
    limit_in,
    made_cgroup,
    memory_hierarchy,
    processes_in,
    wait_until_empty,
)

GUEST_MIB = 128  # of `silent_operator`
MIB = 1 << 20


@pytest.fixture
def engine(tmp_path: Path, parent: str) -> Iterator[Engine]:
    assert parent  # made before the engine, so it is removed after the containers
    with open_engine(tmp_path) as engine:
        operator = engine.folder / "runtime.toml"
        operator.write_text(f'cgroup = "bundle"\n{operator.read_text()}')
        yield engine


@pytest.fixture
def parent() -> Iterator[str]:
    with made_cgroup() as path:
        yield path


def config_of(
    cgroup: str | None, *, limit: int | None = None, **annotations: str
) -> dict[str, Any]:
    config = podman_config(**{INITDATA: DOCUMENT, **annotations})
    config["linux"]["namespaces"] = [{"type": "network"}]
    if cgroup is not None:
        config["linux"]["cgroupsPath"] = cgroup
    if limit is not None:
        config["linux"]["resources"]["memory"] = {"limit": limit}
    return config


def create(engine: Engine, name: str, config: dict[str, Any]) -> int:
    pid_file = engine.folder / f"{name}.pid"
    bundle = str(engine.bundle(config))
    engine.done("create", "--bundle", bundle, "--pid-file", str(pid_file), name)
    return int(pid_file.read_text())


def refused(engine: Engine, config: dict[str, Any]) -> str:
    reason = engine.refused("create", "--bundle", str(engine.bundle(config)), "a")
    assert list((engine.folder / "state").iterdir()) == []
    return reason


def family(pid: int) -> set[int]:
    """A process with all that descends from it."""
    found = {pid}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found |= family(int(child))
    return found


def is_there(path: str) -> bool:
    (found,) = {folder.exists() for folder in folders_of(path)}
    return found


def test_all_processes_of_a_guest_are_in_the_bundles_cgroup_until_it_is_deleted(
    engine: Engine, parent: str
) -> None:
    cgroup = f"{parent}/pod/a"
    pid = create(engine, "a", config_of(cgroup))
    assert len(family(pid)) >= 3  # and QEMU, and the vsock device
    assert processes_in(cgroup) == family(pid)
    assert bytes_in(cgroup) > 16 * MIB
    assert refused_beside(engine, cgroup) == "cgroup.taken"
    assert processes_in(cgroup) == family(pid)
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    engine.done("delete", "a")
    assert not is_there(f"{parent}/pod")
    assert is_there(parent)


def refused_beside(engine: Engine, cgroup: str) -> str:
    return engine.refused("create", "--bundle", str(engine.bundle(config_of(cgroup))), "b")


def test_guest_stays_with_its_caller_if_the_operator_or_the_engine_wants_no_cgroup(
    engine: Engine, parent: str
) -> None:
    create(engine, "a", config_of(None))
    assert "the bundle names no cgroup" in engine.said()
    operator = engine.folder / "runtime.toml"
    operator.write_text(operator.read_text().replace('"bundle"', '"caller"', 1))
    create(engine, "b", config_of(f"{parent}/b"))
    create(engine, "c", config_of("system.slice:ccinit:c", limit=MIB))
    assert not is_there(f"{parent}/b")


def test_limit_of_the_bundle_holds_for_its_cgroup(engine: Engine, parent: str) -> None:
    create(engine, "a", config_of(f"{parent}/a", limit=2 * GUEST_MIB * MIB))
    assert int(limit_in(f"{parent}/a").read_text()) == 2 * GUEST_MIB * MIB


@pytest.mark.parametrize("is_above", [True, False])
def test_limit_below_the_guests_memory_is_refused_before_it_boots(
    engine: Engine, parent: str, *, is_above: bool
) -> None:
    if is_above:
        limit_in(parent).write_text(str(GUEST_MIB * MIB - MIB))
        config = config_of(f"{parent}/a")
    else:
        config = config_of(f"{parent}/a", limit=GUEST_MIB * MIB - MIB)
    assert refused(engine, config) == "cgroup.memory"
    assert f"may use {GUEST_MIB - 1} MiB" in engine.said()
    assert "starting QEMU" not in engine.said()
    assert not is_there(f"{parent}/a")
    assert is_there(parent)

    if is_above:
        limit_in(parent).write_text(str(2 * GUEST_MIB * MIB))
    create(engine, "a", config_of(f"{parent}/a"))


@pytest.mark.parametrize(
    ("below", "reason"),
    [("/../elsewhere", "cgroup.path"), ("/a/", "cgroup.path"), ("//a", "cgroup.path")],
)
def test_path_that_is_not_written_in_full_is_refused(
    engine: Engine, parent: str, below: str, reason: str
) -> None:
    assert refused(engine, config_of(parent + below)) == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../system.slice:ccinit:a", "cgroup.path"),
        ("kubepods/a", "cgroup.path"),
        ("/", "cgroup.path"),
    ],
)
def test_path_that_no_hierarchy_has_is_refused(engine: Engine, path: str, reason: str) -> None:
    assert refused(engine, config_of(path)) == reason


def test_cgroup_of_others_is_left_alone(engine: Engine, parent: str) -> None:
    (memory_hierarchy().root / parent[1:] / "others").mkdir()
    assert refused(engine, config_of(parent)) == "cgroup.taken"
    assert (memory_hierarchy().root / parent[1:] / "others").exists()


def test_what_is_mounted_over_a_cgroup_leads_nowhere(engine: Engine, parent: str) -> None:
    place = memory_hierarchy().root / parent[1:] / "a"
    place.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "none", place), check=True)
    try:
        assert refused(engine, config_of(f"{parent}/a/b")) == "cgroup.path"
    finally:
        subprocess.run(("umount", place), check=True)
    create(engine, "a", config_of(f"{parent}/a/b"))


def test_cgroup_of_a_pod_has_its_guest_and_what_waits_for_it(engine: Engine, parent: str) -> None:
    of_sandbox = {CONTAINER_TYPE: "sandbox", SANDBOX_ID: "s"}
    of_web = {**of_sandbox, CONTAINER_TYPE: "container", CONTAINER_NAME: "web"}
    # Too little for a guest: containerd's limits of a sandbox are for a process that waits.
    sandbox = create(engine, "s", config_of(f"{parent}/s", limit=MIB, **of_sandbox))
    web = create(engine, "w", config_of(f"{parent}/w", limit=MIB, **of_web))
    assert processes_in(f"{parent}/s") == family(sandbox)
    assert processes_in(f"{parent}/w") == {web}
    assert bytes_in(parent) >= bytes_in(f"{parent}/s")
    assert json.loads(engine.done("ps", "--format", "json", "s")) == [sandbox]
    engine.done("delete", "--force", "s")
    assert not is_there(f"{parent}/s")
    assert not is_there(f"{parent}/w")


def test_deletion_waits_for_others_in_the_cgroup_and_says_so(engine: Engine, parent: str) -> None:
    pid = create(engine, "a", config_of(f"{parent}/a"))
    with subprocess.Popen(("sleep", "infinity")) as other:
        try:
            for folder in folders_of(f"{parent}/a"):
                (folder / "cgroup.procs").write_text(str(other.pid))
            os.kill(pid, signal.SIGKILL)
            reap(pid)
            assert engine.refused("delete", "a") == "cgroup.busy"
        finally:
            other.kill()
    engine.done("delete", "a")
    assert not is_there(f"{parent}/a")


def test_folder_that_two_containers_share_goes_with_the_last_that_may_remove_it(
    engine: Engine, parent: str
) -> None:
    create(engine, "a", config_of(f"{parent}/pod/a"))
    create(engine, "b", config_of(f"{parent}/pod/b"))
    engine.done("delete", "--force", "b")
    assert is_there(f"{parent}/pod/a")
    assert not is_there(f"{parent}/pod/b")
    engine.done("delete", "--force", "a")
    assert not is_there(f"{parent}/pod")


def test_deletion_goes_on_if_the_engine_has_removed_the_cgroup(engine: Engine, parent: str) -> None:
    pid = create(engine, "a", config_of(f"{parent}/pod/a"))
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    wait_until_empty(f"{parent}/pod/a")  # QEMU ends a little later
    for folder in folders_of(f"{parent}/pod/a"):
        folder.rmdir()
        folder.parent.rmdir()
    engine.done("delete", "a")


def test_cgroup_whose_files_cannot_be_written_is_removed_again(
    parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sets of processors are refused below a cgroup that has them for itself."""
    refused = OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def refuse(walk: Any, name: str, _value: str) -> None:
        assert name in _CPU_SETS
        assert walk.path.name == "a"
        raise refused

    hierarchies = find_hierarchies()
    sets = [one for one in hierarchies if (one.root / "cpuset.cpus").exists()]
    if not sets or sets[0].is_unified:
        pytest.skip("in version 2 nothing has to be written")
    names = parse_cgroup_path(f"{parent}/a")
    make_cgroup(hierarchies, names[:-1], None)  # the sets of those above
    with monkeypatch.context() as patch:
        patch.setattr(_Walk, "write", refuse)
        with pytest.raises(OSError, match="Invalid") as caught:
            make_cgroup(hierarchies, names, None)
    assert caught.value is refused
    assert not is_there(f"{parent}/a")
    assert len(make_cgroup(hierarchies, names, None)) == len(hierarchies)


def test_cgroup_of_a_container_that_has_ended_is_its_own_until_it_is_deleted(
    engine: Engine, parent: str
) -> None:
    pid = create(engine, "a", config_of(f"{parent}/a"))
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    wait_until_empty(f"{parent}/a")  # QEMU ends a little later
    assert refused_beside(engine, f"{parent}/a") == "cgroup.taken"
    assert f"{parent}/a is the cgroup of container a" in engine.said()
    assert is_there(f"{parent}/a")
    engine.done("delete", "a")
    create(engine, "b", config_of(f"{parent}/a"))
