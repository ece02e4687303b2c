"""A sandbox is removed after the containers of its pod, and by force together with them.

Nothing lives here: a record whose process is not there is that of a container that has ended.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from host_runtime.oci_runtime import lifecycle
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_state import ContainerRecord
from host_runtime.oci_runtime.container_store import ContainerStore
from host_runtime.oci_runtime.lifecycle import Runtime


class Clock:
    """A clock that goes on by what is slept, and does something at each of the first sleeps."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.seconds = 0.0
        self.left = [*steps]

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        if self.left:
            self.left.pop(0)()
        self.seconds += seconds


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    store = ContainerStore(root=tmp_path / "state")
    for name, sandbox, member in (
        ("s", "s", ""),
        ("a", "s", "web"),
        ("b", "s", "sidecar"),
        ("other", "other", ""),
        ("c", "other", "web"),
    ):
        record = ContainerRecord(
            id=name,
            bundle="/b",
            annotations={},
            created="2026-11-01T00:00:00Z",
            pid=1,
            sandbox=sandbox,
            member=member,
        )
        with store.new(record):
            pass
    return Runtime(store=store)


def left(runtime: Runtime) -> list[str]:
    return sorted(path.name for path in runtime.store.root.iterdir())


def test_deletion_of_a_sandbox_waits_for_those_of_its_containers(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_the_others() -> None:
        assert left(runtime) == ["a", "b", "c", "other", "s"]
        runtime.delete("a", is_forced=False)
        runtime.delete("b", is_forced=False)

    clock = Clock(delete_the_others)
    monkeypatch.setattr(lifecycle, "time", clock)
    runtime.delete("s", is_forced=False)
    assert clock.seconds > 0
    assert left(runtime) == ["c", "other"]


@pytest.mark.parametrize("is_deleted_before", [False, True])
def test_deletion_of_a_sandbox_waits_until_a_shim_has_forgotten_its_containers(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_deleted_before: bool
) -> None:
    """An engine removes a bundle when nobody knows its container any more; a pause knows nothing.

    Another attempt for a container takes the place of the first, whose bundle is gone long since.
    """
    bundles = [tmp_path / name for name in ("first", "web", "sidecar")]
    members = ("web", "web", "sidecar")
    sandbox = Container(folder=runtime.store.root / "s")
    for bundle, member in zip(bundles, members, strict=True):
        os.close(sandbox.hold_member(member, str(bundle)))
    for bundle in bundles[1:]:
        bundle.mkdir()
    (sandbox.folder / "member-early").touch()  # of a runtime that noted no bundles

    def delete_the_others() -> None:
        for name in ("a", "b"):
            runtime.delete(name, is_forced=False)

    steps = [delete_the_others, bundles[2].rmdir, bundles[1].rmdir]
    if is_deleted_before:
        steps.pop(0)()
    clock = Clock(*steps)
    monkeypatch.setattr(lifecycle, "time", clock)
    runtime.delete("s", is_forced=False)
    assert not clock.left
    assert not bundles[1].exists()
    assert clock.seconds < 1
    assert left(runtime) == ["c", "other"]


def test_deletion_of_a_sandbox_does_not_wait_for_ever(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(lambda: None)
    monkeypatch.setattr(lifecycle, "time", clock)
    runtime.delete("s", is_forced=False)
    assert 5 <= clock.seconds < 6
    assert left(runtime) == ["a", "b", "c", "other"]


def test_forced_deletion_of_a_sandbox_removes_its_containers_at_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AssertionError("it has waited")

    monkeypatch.setattr(lifecycle, "time", Clock(fail))
    runtime.delete("s", is_forced=True)
    assert left(runtime) == ["c", "other"]
