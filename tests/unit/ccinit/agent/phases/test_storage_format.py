"""Whose a device is while a child makes a file system on it."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.phases import storage
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import ChildError, KernelError
from ccinit.kernel.event_loop import EventLoop


class FormatChild:
    """The program that makes a file system, and whose the device is meanwhile."""

    def __init__(self, owners: dict[str, tuple[int, int]], end: Callable[[], Any]) -> None:
        self._owners = owners
        self._end = end
        self.runs: list[tuple[object, ...]] = []

    async def run_program(
        self, role: Role, arguments: tuple[str, ...], *, seconds: float, workspace: str
    ) -> Any:
        assert seconds > 0
        self.runs.append((role, arguments, workspace, self._owners[workspace]))
        return self._end()


def ended(*, well: bool) -> Any:
    status = SimpleNamespace(is_success=lambda: well)
    return SimpleNamespace(status=status, output="no space")


def make_file_system(guest: Any, node: str, *arguments: str) -> None:
    async def make() -> None:
        await storage._formatter(guest)(node, arguments)

    EventLoop().run(make())


@contextmanager
def refusal_of(reason: str) -> Iterator[None]:
    """Require a refusal for this reason, or none if there is no reason."""
    if not reason:
        yield
        return
    with pytest.raises((ChildError, KernelError)) as refused:
        yield
    assert refused.value.reason == reason


def fail_to_start() -> Any:
    raise KernelError(errno.EAGAIN, "clone3", "child")


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda: ended(well=True), ""),
        (lambda: ended(well=False), "unlock.mkfs"),
        (fail_to_start, "kernel.clone3"),
    ],
)
def test_device_is_the_childs_only_while_it_makes_the_file_system(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[], Any], reason: str
) -> None:
    owners: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(os, "chown", lambda node, uid, gid: owners.__setitem__(node, (uid, gid)))
    child = FormatChild(owners, end)
    guest: Any = SimpleNamespace(children=child)
    with refusal_of(reason):
        make_file_system(guest, "/dev/dm-1", "-q")
    uid = RIGHTS[Role.FORMAT].uid
    assert child.runs == [(Role.FORMAT, ("-q",), "/dev/dm-1", (uid, uid))]
    assert owners == {"/dev/dm-1": (0, 0)}


def test_device_that_is_gone_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    child = FormatChild({}, fail_to_start)
    guest: Any = SimpleNamespace(children=child)
    node = str(tmp_path / "dm-1")
    with pytest.raises(KernelError) as refused:
        make_file_system(guest, node)
    assert refused.value.reason == "kernel.chown"
    assert node in str(refused.value)
    assert child.runs == []
