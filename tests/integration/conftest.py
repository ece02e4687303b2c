"""What these tests need: root, a machine that stays clean, registries and keys for images."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootfs_builder.cli import main
from tests.fakes.images.hostile_registry import serve_hostile
from tests.faults.plugin import FaultSeen
from tests.integration.leftovers import (
    have_own_mounts,
    leaving_no_children,
    reaping_orphans,
    remove_dead_cgroups,
)
from tests.integration.pull.hostile_harness import IMAGE, Harness
from tests.integration.pull.real_registry import (
    Authority,
    Registry,
    make_authority,
    running_registry,
)
from tests.integration.pull.recipients import Recipient, make_recipients


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Whatever fails in these tests, and however their process ends."""
    if os.geteuid() == 0:
        remove_dead_cgroups()  # of a run that could not
        have_own_mounts()
    yield
    if os.geteuid() == 0:
        remove_dead_cgroups()


@pytest.fixture(scope="module", autouse=True)
def _no_child_is_left() -> Iterator[None]:
    """So that a test which leaves one fails, and not one that finds it."""
    with leaving_no_children():
        yield


@pytest.fixture(autouse=True)
def _garbage_of_each_is_its_own() -> Iterator[None]:
    """As `tests.conftest` has it of each module: here a test opens much."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _orphans_are_reaped() -> Iterator[None]:
    """Here this process is PID 1 to the code that it tests."""
    with reaping_orphans():
        yield


@pytest.fixture(autouse=True)
def clock_settings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What a guest would have set the clock to; this one is the machine's."""
    settings: list[int] = []
    monkeypatch.setattr("ccinit.boot.clock.set_realtime", settings.append)
    return settings


@pytest.fixture(scope="session")
def as_root() -> None:
    """For tests that give rights up or make namespaces: were they skipped, nobody would notice."""
    if os.geteuid() != 0:
        pytest.fail("needs root, as CONTRIBUTING.md says of tests/integration", pytrace=False)


@pytest.fixture(scope="session")
def images() -> Path:
    """The folder of what `make image` publishes, built if it is not up to date."""
    folder = Path("build/image").absolute()
    assert main(["image", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), authority) as running:
        yield running


@pytest.fixture
def hostile(
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault_seen: FaultSeen,
) -> Iterator[Harness]:
    """A registry that the test makes hostile, and a guest that is soon to ask again."""
    monkeypatch.setattr("ccinit.pull.registry.client._FIRST_WAIT_SECONDS", 0.01)
    with serve_hostile(IMAGE, authority.server_context()) as registry:
        yield Harness(registry, authority, tmp_path, fault_seen)


@pytest.fixture(scope="module")
def recipients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipient]:
    return make_recipients(tmp_path_factory.mktemp("recipients"))
