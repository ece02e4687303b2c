"""Whose life a signal ends, and when a container may be deleted.

Nothing lives here: what is alive, and takes a signal, is what a test says.
"""

import signal
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, DeadlineError
from host_runtime.oci_runtime import lifecycle
from host_runtime.oci_runtime.container_state import ContainerRecord, Status
from host_runtime.oci_runtime.container_store import Container, ContainerStore
from host_runtime.oci_runtime.lifecycle import Runtime


class World:
    """The sandbox `s` and its container `a`."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.runtime = Runtime(store=ContainerStore(root=root / "state"))
        self.status = Status.RUNNING
        self.takes: set[str] = set()
        self.alive: set[str] = set()
        self.machines: set[str] = set()
        self.sent: list[tuple[str, int]] = []
        self.seconds = 0.0
        self.records = {
            name: ContainerRecord(
                id=name,
                bundle="/b",
                annotations={},
                created="2026-11-01T00:00:00Z",
                pid=1,
                sandbox="s",
                member=member,
                is_started=True,
            )
            for name, member in (("s", ""), ("a", "web"))
        }
        for record in self.records.values():
            with self.runtime.store.new(record):
                pass

        def send(container: Container, number: int) -> bool:
            self.sent.append((container.folder.name, number))
            return container.folder.name in self.takes

        patch.setattr(
            Container, "look", lambda one, **_how: (self.records[one.folder.name], self.status)
        )
        patch.setattr(Container, "send", send)
        patch.setattr(Container, "is_alive", lambda one: one.folder.name in self.alive)
        patch.setattr(Container, "has_machine", lambda one: one.folder.name in self.machines)
        patch.setattr(lifecycle, "time", self)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def refusal(self, number: int, name: str = "a", *, is_for_all: bool = False) -> str:
        with pytest.raises(CcinitError) as refused:
            self.runtime.kill(name, number, is_for_all=is_for_all)
        return refused.value.reason

    def is_there(self, name: str) -> bool:
        return (self.runtime.store.root / name).exists()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_signal_to_a_container_of_a_pod_goes_to_its_guest(world: World) -> None:
    world.takes = {"s"}
    world.runtime.kill("a", signal.SIGTERM)
    assert world.sent == [("s", signal.SIGTERM)]


def test_process_of_a_container_is_ended_if_its_guest_is_gone(world: World) -> None:
    world.takes = {"a"}
    world.runtime.kill("a", signal.SIGKILL)
    assert world.sent == [("s", signal.SIGKILL), ("a", signal.SIGKILL)]
    assert world.refusal(signal.SIGTERM) == "container.state"
    assert world.sent[2:] == [("s", signal.SIGTERM)]


def test_container_that_has_ended_is_not_running(world: World) -> None:
    world.status = Status.STOPPED
    world.takes = {"s"}
    assert world.refusal(signal.SIGTERM) == "container.state"
    assert world.refusal(signal.SIGKILL) == "container.state"
    assert ("s", signal.SIGKILL) not in world.sent
    world.runtime.kill("a", signal.SIGKILL, is_for_all=True)
    world.alive = {"a"}
    assert world.refusal(signal.SIGKILL, is_for_all=True) == "container.state"


def test_container_that_runs_is_deleted_by_force_only_and_by_the_end_of_its_guest(
    world: World,
) -> None:
    with pytest.raises(CcinitError) as refused:
        world.runtime.delete("a", is_forced=False)
    assert refused.value.reason == "container.state"
    assert world.is_there("a")
    assert world.sent == []
    world.runtime.delete("a", is_forced=True)
    assert world.sent == [("s", signal.SIGKILL)]
    assert not world.is_there("a")


@pytest.mark.parametrize("what", ["takes", "alive", "machines"])
def test_nothing_is_deleted_while_anything_of_it_lives(world: World, what: str) -> None:
    world.status = Status.STOPPED
    setattr(world, what, {"a"})
    with pytest.raises(DeadlineError) as refused:
        world.runtime.delete("a", is_forced=False)
    assert refused.value.reason == "container.runs"
    assert world.is_there("a")
    setattr(world, what, set())
    world.runtime.delete("a", is_forced=False)
    assert not world.is_there("a")
