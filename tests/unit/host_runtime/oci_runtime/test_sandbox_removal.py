"""A sandbox is removed after the containers of its pod, and by force together with them.

Nothing lives here: a record whose process is not there is that of a container that has ended.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from host_runtime.oci_runtime import lifecycle
from host_runtime.oci_runtime.container_state import ContainerRecord
from host_runtime.oci_runtime.container_store import ContainerStore
from host_runtime.oci_runtime.lifecycle import Runtime


class Clock:
    """A clock that goes on by what is slept, and does something at the first sleep."""

    def __init__(self, at_first: Callable[[], None]) -> None:
        self.seconds = 0.0
        self.at_first = at_first

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        if self.seconds == 0.0:
            self.at_first()
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
