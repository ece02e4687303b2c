"""Whose life a signal ends, and when a container may be deleted.

Nothing lives here: what is alive, and takes a signal, is what a test says.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ConfigError, DeadlineError, FormatError
from host_runtime.oci_runtime import lifecycle
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_state import ContainerRecord, Status
from host_runtime.oci_runtime.container_store import ContainerStore
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
        self.first_seconds: dict[str, float] = {}
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
            self.note_first(f"{signal.Signals(number).name} to {container.folder.name}")
            return container.folder.name in self.takes

        patch.setattr(
            Container, "look", lambda one, **_how: (self.records[one.folder.name], self.status)
        )
        patch.setattr(Container, "send", send)
        patch.setattr(Container, "is_alive", lambda one: one.folder.name in self.alive)
        patch.setattr(Container, "has_machine", lambda one: one.folder.name in self.machines)
        patch.setattr(
            Container, "kill_machine", lambda one: self.note_first(f"machine of {one.folder.name}")
        )
        patch.setattr(lifecycle, "time", self)

    def note_first(self, what: str) -> None:
        self.first_seconds.setdefault(what, self.seconds)

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


def test_what_does_not_end_is_ended_by_ever_harder_means_and_then_given_up(world: World) -> None:
    world.alive, world.seconds = {"a"}, 1000.0
    with pytest.raises(DeadlineError) as refused:
        world.runtime.delete("a", is_forced=True)
    assert refused.value.reason == "container.runs"
    assert world.first_seconds == {
        "SIGKILL to s": 1000.0,  # its guest
        "SIGKILL to a": pytest.approx(1005, abs=0.1),  # a process that outlives its guest
        "machine of a": pytest.approx(1010, abs=0.1),
    }
    assert world.seconds == pytest.approx(1020, abs=0.1)


def test_container_that_is_not_started_yet_is_signalled_itself(world: World) -> None:
    """It is a process of this host, and the guest has nothing of it."""
    world.records["a"] = replace(world.records["a"], is_started=False)
    world.takes = {"a", "s"}
    world.runtime.kill("a", signal.SIGKILL)
    assert world.sent == [("a", signal.SIGKILL)]


@pytest.mark.parametrize(
    ("status", "processes"),
    [(Status.CREATED, (1,)), (Status.RUNNING, (1,)), (Status.STOPPED, ())],
)
def test_container_has_a_process_until_it_has_ended(
    world: World, status: Status, processes: tuple[int, ...]
) -> None:
    world.status = status
    assert world.runtime.processes("a") == processes


def test_what_a_container_had_is_given_back_before_its_record_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    @contextmanager
    def without_life(container: Container) -> Iterator[None]:
        done.append(f"no life of {container.folder.name}")
        yield
        done.append("a life may begin" if container.folder.exists() else "removed")

    def note(what: str) -> Callable[[Container], None]:
        return lambda container: done.append(f"{what} of {container.folder.name}")

    monkeypatch.setattr(Container, "without_life", without_life)
    monkeypatch.setattr(lifecycle, "release_network", note("network"))
    monkeypatch.setattr(lifecycle, "leave_no_cgroup", note("cgroup"))
    world.status = Status.STOPPED
    world.runtime.delete("a", is_forced=False)
    assert done == ["network of a", "no life of a", "cgroup of a", "removed"]


@pytest.mark.parametrize("is_forced", [False, True])
def test_container_whose_cgroup_stays_is_kept_so_that_deletion_can_be_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_forced: bool
) -> None:
    def refuse(_container: Container) -> None:
        raise ConfigError("cgroup.busy", "it has processes")

    world.status = Status.STOPPED
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "leave_no_cgroup", refuse)
        with pytest.raises(ConfigError) as refused:
            world.runtime.delete("a", is_forced=is_forced)
    assert refused.value.reason == "cgroup.busy"
    assert world.is_there("a")
    world.runtime.delete("a", is_forced=is_forced)
    assert not world.is_there("a")


def test_container_that_nobody_knows_is_deleted_by_force_only(world: World) -> None:
    world.runtime.delete("nobody", is_forced=True)
    with pytest.raises(ConfigError) as refused:
        world.runtime.delete("nobody", is_forced=False)
    assert refused.value.reason == "container.unknown"


def test_record_that_cannot_be_read_is_deleted_by_force_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_container: Container, **_how: object) -> tuple[ContainerRecord, Status]:
        raise FormatError("container.record", "of another version")

    monkeypatch.setattr(Container, "look", refuse)
    with pytest.raises(FormatError) as refused:
        world.runtime.delete("a", is_forced=False)
    assert refused.value.reason == "container.record"
    assert world.is_there("a")
    world.runtime.delete("a", is_forced=True)
    assert not world.is_there("a")


@pytest.mark.parametrize("is_forced", [False, True])
def test_name_that_leads_out_of_the_store_is_deleted_by_nobody(
    world: World, *, is_forced: bool
) -> None:
    with pytest.raises(CcinitError) as refused:
        world.runtime.delete("../state/a", is_forced=is_forced)
    assert refused.value.reason == "container.id"
    assert world.is_there("a")
