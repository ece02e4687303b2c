"""Which cgroup a container takes, and for how much memory; `test_cgroup` has how one is made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.oci_runtime import container_cgroup
from host_runtime.oci_runtime.cgroup import Hierarchy, MemoryNeed
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_cgroup import leave_no_cgroup, take_cgroup
from host_runtime.oci_runtime.container_state import ContainerRecord
from host_runtime.oci_runtime.container_store import ContainerStore

RECORD = ContainerRecord(
    id="a",
    bundle="/b",
    annotations={},
    created="now",
    resources={"memory": {"limit": 300 << 20}},
    cgroup="/pod/a",
)
MADE = Path("/hierarchy/pod/a")


class Cgroups:
    """Notes what is made, entered and removed, in this order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[object, ...]] = []
        hierarchies: tuple[Hierarchy, ...] = ()
        monkeypatch.setattr(container_cgroup, "find_hierarchies", lambda: hierarchies)
        for name in ("make_cgroup", "enter_cgroup", "remove_cgroup"):
            monkeypatch.setattr(container_cgroup, name, getattr(self, name))

    def make_cgroup(
        self, _hierarchies: object, names: Sequence[str], need: MemoryNeed | None
    ) -> tuple[Path, ...]:
        self.done.append(("make", *names, need))
        return (MADE,)

    def enter_cgroup(self, _hierarchies: object, names: Sequence[str]) -> None:
        self.done.append(("enter", *names))

    def remove_cgroup(
        self, _hierarchies: object, names: Sequence[str], made: Sequence[Path]
    ) -> None:
        self.done.append(("remove", *names, *made))


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    return Cgroups(monkeypatch)


def container(folder: Path, record: ContainerRecord) -> Container:
    store = ContainerStore(root=folder)
    with store.new(record) as new:
        return new


@pytest.mark.parametrize(
    ("sandbox", "guest_mib", "need"),
    [
        ("", 256, MemoryNeed(guest_bytes=256 << 20, limit_bytes=300 << 20)),
        ("pod", 256, MemoryNeed(guest_bytes=256 << 20, limit_bytes=None)),
        ("", 0, None),
    ],
)
def test_need_is_that_of_the_guest(
    tmp_path: Path, cgroups: Cgroups, sandbox: str, guest_mib: int, need: MemoryNeed | None
) -> None:
    """The resources of a sandbox are for a process that waits; one without a guest needs none."""
    its = container(tmp_path, replace(RECORD, sandbox=sandbox))
    take_cgroup(its, guest_mib)
    assert cgroups.done == [("make", "pod", "a", need), ("enter", "pod", "a")]
    cgroups.done.clear()
    leave_no_cgroup(its)
    assert cgroups.done == [("remove", "pod", "a", MADE)]


@pytest.mark.parametrize("named", [None, ""])
def test_container_whose_bundle_names_none_stays_where_it_is(
    tmp_path: Path, cgroups: Cgroups, capfd: pytest.CaptureFixture[str], named: str | None
) -> None:
    its = container(tmp_path, replace(RECORD, cgroup=named))
    take_cgroup(its, 256)
    leave_no_cgroup(its)
    assert cgroups.done == []
    assert ("names no cgroup" in capfd.readouterr().err) is (named == "")


def test_cgroup_of_another_container_is_not_taken(tmp_path: Path, cgroups: Cgroups) -> None:
    first, second = (container(tmp_path, replace(RECORD, id=name)) for name in ("a", "b"))
    take_cgroup(first)
    with pytest.raises(ConfigError, match=r"cgroup\.taken: /pod/a is .*container a: delete"):
        take_cgroup(second)
    take_cgroup(first)  # its own is no other's
    (first.folder / "cgroup").write_text("cut")  # what is damaged is nobody's
    take_cgroup(second)
    third = container(tmp_path, replace(RECORD, id="c", cgroup="/pod/c"))
    take_cgroup(third)
    assert cgroups.done[-1] == ("enter", "pod", "c")
