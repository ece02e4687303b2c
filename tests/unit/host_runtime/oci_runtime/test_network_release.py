"""Whose network namespace gets back what a guest's host process has left there."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccinit.errors import ConfigError
from host_runtime.oci_runtime import network_release
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.network_release import release_network


class World:
    """A container, and what is done in which thread."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.container = Container(folder=folder)
        self.killed = True
        self.plan = SimpleNamespace(network_namespace="/run/netns/pod", boot=("--network", "pod"))
        self.error: Exception | None = None
        self.is_other = True
        self.entered: list[str] = []
        self.given_back_by: list[threading.Thread] = []
        patch.setattr(Container, "was_killed", lambda _container: self.killed)
        patch.setattr(network_release, "GuestPlan", SimpleNamespace(read=self._read))
        patch.setattr(
            network_release, "parse_boot_options", lambda boot: SimpleNamespace(network=boot[1])
        )
        patch.setattr(network_release, "enter_network_namespace", self._enter)
        patch.setattr(
            network_release,
            "give_back_abandoned",
            lambda: self.given_back_by.append(threading.current_thread()),
        )

    def _read(self, folder: Path) -> SimpleNamespace:
        assert folder == self.container.folder
        if self.error is not None:
            raise self.error
        return self.plan

    def _enter(self, namespace: str) -> bool:
        self.entered.append(namespace)
        return self.is_other


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_namespace_of_a_container_that_was_killed_gets_its_interface_back(world: World) -> None:
    release_network(world.container)
    assert world.entered == ["/run/netns/pod"]
    (thread,) = world.given_back_by
    assert thread is not threading.current_thread()  # which stays in its own namespace
    assert not thread.is_alive()


def ended(world: World) -> None:
    world.killed = False


def without_namespace(world: World) -> None:
    world.plan.network_namespace = ""


def without_pods_network(world: World) -> None:
    world.plan.boot = ("--network", "user")


@pytest.mark.parametrize("change", [ended, without_namespace, without_pods_network])
def test_namespace_is_left_alone_where_nothing_was_left(
    world: World, change: Callable[[World], None]
) -> None:
    change(world)
    release_network(world.container)
    assert (world.entered, world.given_back_by) == ([], [])


def test_own_namespace_is_left_alone(world: World) -> None:
    world.is_other = False
    release_network(world.container)
    assert (world.entered, world.given_back_by) == (["/run/netns/pod"], [])


@pytest.mark.parametrize(
    "error", [ConfigError("x.y", ""), FileNotFoundError(), ValueError(), TypeError()]
)
def test_container_without_a_plan_that_can_be_read_has_nothing_to_give_back(
    world: World, error: Exception
) -> None:
    world.error = error
    release_network(world.container)
    assert (world.entered, world.given_back_by) == ([], [])
