"""Hosts whose systemd makes no scope; a real one that does: `tests/vm/guest/under_systemd`."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccinit.errors import ChildError, ConfigError
from host_runtime.oci_runtime import systemd
from host_runtime.oci_runtime.cgroup import Hierarchy, MemoryNeed
from host_runtime.oci_runtime.scope_unit import ScopeUnit
from host_runtime.programs import tools

UNIT = ScopeUnit(name="c-a.scope", slice="a.slice")


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    """Version 2 without the scope, on a host that has the programs in `bin`."""
    for folder in ("root", "bin"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(tools, "_SYSTEM_PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Hierarchy(root=tmp_path / "root", is_unified=True, has_memory=True)


@pytest.fixture
def busctl(tmp_path: Path, hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the program, which fails with the words in this list, if any."""
    assert hierarchy
    program = tmp_path / "bin/busctl"
    program.touch(mode=0o755)
    words: list[str] = []

    def run(command: Sequence[str], **_: object) -> bytes:
        assert command[0] == str(program)
        if words:
            raise ChildError("process.failed", words[0])
        return b""

    monkeypatch.setattr(systemd, "run", run)
    return words


def refusal(*hierarchies: Hierarchy, need: MemoryNeed | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        systemd.require_no_scope(hierarchies, UNIT, need)
    return error.value


def refusal_to_make_it(hierarchy: Hierarchy) -> ConfigError:
    systemd.require_no_scope((hierarchy,), UNIT, None)
    with pytest.raises(ConfigError) as error:
        systemd.enter_scope((hierarchy,), UNIT, None)
    return error.value


def test_host_without_systemd_is_refused(hierarchy: Hierarchy) -> None:
    error = refusal_to_make_it(hierarchy)
    assert error.reason == "cgroup.systemd"
    assert "c-a.scope: busctl is not installed" in error.detail


def test_systemd_that_does_not_answer_is_refused_in_the_words_of_its_client(
    hierarchy: Hierarchy, busctl: list[str]
) -> None:
    busctl.append("busctl ended with 1: No such file")
    error = refusal_to_make_it(hierarchy)
    assert error.reason == "cgroup.systemd"
    assert error.detail.endswith("c-a.scope: busctl ended with 1: No such file")


def test_scope_that_this_process_is_not_moved_into_is_refused(
    hierarchy: Hierarchy, busctl: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not busctl
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/a.slice/c-a.scope\n0::/before\n")
    monkeypatch.setattr(systemd, "_OWN", own)
    monkeypatch.setattr(systemd, "_SECONDS", 0.3)
    error = refusal_to_make_it(hierarchy)
    assert error.reason == "cgroup.systemd"
    assert error.detail.endswith("from /before to /a.slice/c-a.scope")
    own.write_text("0::/a.slice/c-a.scope\n")
    systemd.enter_scope((hierarchy,), UNIT, None)


def test_cgroups_of_version_1_are_refused(tmp_path: Path) -> None:
    of_version_1 = Hierarchy(root=tmp_path, is_unified=False, has_memory=True)
    uncounted = Hierarchy(root=tmp_path, is_unified=True, has_memory=False)
    assert refusal(of_version_1, uncounted).reason == "cgroup.none"


@pytest.mark.parametrize("limit_bytes", [99, None])
def test_guest_larger_than_a_limit_is_refused_before_systemd_is_asked(
    hierarchy: Hierarchy, limit_bytes: int | None
) -> None:
    if limit_bytes is None:
        (hierarchy.root / "a.slice").mkdir()
        (hierarchy.root / "a.slice/memory.max").write_text("99\n")
    need = MemoryNeed(guest_bytes=100, limit_bytes=limit_bytes)
    assert refusal(hierarchy, need=need).reason == "cgroup.memory"
