"""One cgroup has one container, even if two ask for it at the same time."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.oci_runtime import container_cgroup
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_cgroup import take_cgroup
from host_runtime.oci_runtime.container_state import ContainerRecord
from host_runtime.oci_runtime.container_store import ContainerStore

RECORD = ContainerRecord(id="a", bundle="/b", annotations={}, created="now", cgroup="/pods/one")


class SlowCgroups:
    """Makes cgroups, the first of them slowly enough for another container to ask meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_making = threading.Event()
        self.made: list[tuple[str, ...]] = []
        monkeypatch.setattr(container_cgroup, "find_hierarchies", tuple)
        monkeypatch.setattr(container_cgroup, "enter_cgroup", lambda *_: None)
        monkeypatch.setattr(container_cgroup, "make_cgroup", self.make)

    def make(self, _hierarchies: object, names: tuple[str, ...], _need: object) -> tuple[Path, ...]:
        self.made.append(names)
        if not self.is_making.is_set():
            self.is_making.set()
            threading.Event().wait(0.3)
        return ()


def new(store: ContainerStore, name: str, cgroup: str) -> Container:
    with store.new(replace(RECORD, id=name, cgroup=cgroup)) as container:
        return container


@pytest.mark.parametrize(("other", "is_taken"), [("/pods/one", True), ("/pods/two", False)])
def test_of_two_that_ask_for_one_cgroup_at_once_one_gets_it(
    other: str, *, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups, store = SlowCgroups(monkeypatch), ContainerStore(root=tmp_path)
    first, second = new(store, "a", "/pods/one"), new(store, "b", other)
    slow = threading.Thread(target=take_cgroup, args=(first,))
    slow.start()
    assert cgroups.is_making.wait(30)
    reasons = []
    try:
        take_cgroup(second)
    except ConfigError as error:
        reasons.append(error.reason)
    slow.join()
    assert reasons == ["cgroup.taken"] * is_taken
    assert cgroups.made == [("pods", "one")] + [("pods", "two")] * (not is_taken)
