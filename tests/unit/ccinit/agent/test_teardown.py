"""The way down: every step is taken, whatever becomes of the others."""

import pytest

from ccinit.agent.teardown import Teardown, undoing
from ccinit.errors import KernelError
from ccinit.kernel.event_loop import Event, EventLoop


def run(teardown: Teardown) -> dict[str, str]:
    """Go down; return the reasons of the steps that failed."""
    failures = EventLoop().run(teardown.run())
    return {name: error.reason for name, error in failures}


def test_steps_are_taken_newest_first_and_once() -> None:
    teardown, steps = Teardown(), list[str]()
    for name in ("first", "second"):
        teardown.push(name, undoing(lambda name=name: steps.append(name)))  # type: ignore[misc]
    assert run(teardown) == {}
    assert steps == ["second", "first"]
    assert run(teardown) == {}
    assert steps == ["second", "first"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KernelError(16, "umount2", "/volume"), "kernel.umount2"),
        (OSError(16, "a bare one"), "kernel.call"),
        (ValueError("a bug of ours"), "internal"),
    ],
)
def test_step_that_fails_does_not_keep_keys_from_being_wiped(error: Exception, reason: str) -> None:
    teardown, steps = Teardown(), list[str]()

    def fail() -> None:
        raise error

    teardown.push("secrets", undoing(lambda: steps.append("wiped")))
    teardown.push("volume", undoing(fail))
    assert run(teardown) == {"volume": reason}
    assert steps == ["wiped"]


def test_step_that_hangs_does_not_keep_keys_from_being_wiped() -> None:
    teardown, steps = Teardown(), list[str]()

    async def hang() -> None:
        await Event().wait()

    teardown.push("secrets", undoing(lambda: steps.append("wiped")))
    teardown.push("container", hang, seconds=0.01)
    assert run(teardown) == {"container": "stop.deadline"}
    assert steps == ["wiped"]


def test_steps_above_another_are_taken_and_none_if_there_is_no_such_step() -> None:
    teardown, steps = Teardown(), list[str]()
    for name in ("keys", "owner plane", "volume"):
        teardown.push(name, undoing(lambda name=name: steps.append(name)))  # type: ignore[misc]
    with pytest.raises(RuntimeError):
        EventLoop().run(teardown.run(above="another"))
    assert not steps
    assert EventLoop().run(teardown.run(above="owner plane")) == ()
    assert steps == ["volume"]
    assert run(teardown) == {}
    assert steps == ["volume", "owner plane", "keys"]
