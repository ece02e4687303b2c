"""Folders of containers: whole or not there, one command at a time."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime import container_store
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_state import ContainerRecord, Status
from host_runtime.oci_runtime.container_store import ContainerStore
from tests.fakes.machine.scarcity import count_descriptors, room_for
from tests.unit.host_runtime.oci_runtime.rivals import RECORD, hold, make_anew_meanwhile


def names(store: ContainerStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


def test_container_is_creating_then_there_then_gone(store: ContainerStore) -> None:
    with store.new(RECORD) as container:
        assert names(store) == ["a"]
        assert store.look("a") == (RECORD, Status.CREATING)
        container.write(RECORD.with_process(7))
    assert store.look("a") == (RECORD.with_process(7), Status.STOPPED)  # nobody lives
    with store.lock("a") as container:
        store.remove(container)
    assert names(store) == []
    with pytest.raises(CcinitError, match="a does not exist"):
        store.look("a")


def test_store_is_its_owners_alone(store: ContainerStore) -> None:
    with store.new(RECORD):
        pass
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_one_name_is_one_container(store: ContainerStore) -> None:
    with store.new(RECORD):
        pass
    with pytest.raises(CcinitError) as error, store.new(RECORD):
        pass
    assert error.value.reason == "container.exists"
    assert names(store) == ["a"]


def test_creation_that_fails_leaves_nothing(store: ContainerStore) -> None:
    with pytest.raises(OSError, match="disk"), store.new(RECORD):
        raise OSError("disk")
    assert names(store) == []


def test_creation_tells_why_it_failed_though_its_removal_fails_too(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "removal")

    with monkeypatch.context() as patch:

        def fail_first() -> None:
            patch.setattr(shutil, "rmtree", fail)
            raise OSError("first")

        with pytest.raises(OSError, match="first"), store.new(RECORD):
            fail_first()
    (left,) = names(store)
    assert left.startswith(".gone-")
    os.utime(store.root / left, (0, 0))
    with store.new(RECORD) as container:
        store.remove(container)
    assert names(store) == []


def test_creation_on_a_full_disk_leaves_nothing(store: ContainerStore) -> None:
    with room_for(1), pytest.raises(OSError, match="too large"), store.new(RECORD):
        pass
    assert not list(store.root.iterdir())
    with store.new(RECORD):
        pass
    assert names(store) == ["a"]


def test_creation_that_was_killed_is_a_stopped_container(store: ContainerStore) -> None:
    with store.new(RECORD):
        pass  # as if killed before it wrote a pid
    assert store.look("a")[1] is Status.STOPPED


def test_record_and_status_are_of_one_moment(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.new(RECORD) as container:
        container.hold_life()
        is_alive = Container.is_alive

        def written_down_meanwhile(looked_at: Container) -> bool:
            container.write(RECORD.with_process(7))
            return is_alive(looked_at)

        monkeypatch.setattr(Container, "is_alive", written_down_meanwhile)
        assert store.look("a") == (RECORD, Status.CREATING)
        assert store.look("a") == (RECORD.with_process(7), Status.CREATED)


def test_container_that_takes_a_name_over_is_not_taken_for_the_one_before(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.new(RECORD) as container:
        pass
    record = Container.record

    def made_anew_meanwhile(looked_at: Container) -> ContainerRecord:
        monkeypatch.setattr(Container, "record", record)
        store.remove(container)
        with store.new(RECORD):
            pass
        return looked_at.record()

    monkeypatch.setattr(Container, "record", made_anew_meanwhile)
    with pytest.raises(CcinitError) as error:
        store.look("a")
    assert error.value.reason == "container.unknown"
    assert store.look("a") == (RECORD, Status.STOPPED)


def test_commands_wait_for_each_other(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_store, "_LOCK_SECONDS", 0.05)
    with store.new(RECORD) as container:
        with pytest.raises(CcinitError) as error, store.lock("a"):
            pass
        assert error.value.reason == "container.busy"
        assert container.record() == RECORD
    with store.lock("a") as container:
        assert container.record() == RECORD


def test_command_that_has_waited_for_a_deletion_finds_nothing(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.new(RECORD) as container:
        pass
    lock = hold(container.folder)
    make_anew_meanwhile(monkeypatch, store, lambda: os.close(lock))
    with pytest.raises(CcinitError) as error, store.lock("a"):
        pass
    assert error.value.reason == "container.unknown"


def test_what_killed_commands_left_goes_once_it_is_old(store: ContainerStore) -> None:
    with store.new(RECORD) as container:
        pass
    for name in (".new-old", ".gone-old", ".new-young"):
        (store.root / name).mkdir()
    for name in (".new-old", ".gone-old"):
        os.utime(store.root / name, (0, 0))
    with store.lock("a"):
        store.remove(container)
    assert names(store) == [".new-young"]


def test_container_is_removed_from_a_full_disk(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.new(RECORD):
        pass

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "mkdir", no_room)
    with store.lock("a") as container:
        store.remove(container)
    assert names(store) == []


def test_name_that_is_a_link_is_no_container(store: ContainerStore, tmp_path: Path) -> None:
    with store.new(RECORD):
        pass
    (store.root / "b").symlink_to(store.root / "a")
    with pytest.raises(OSError, match="b"):
        store.look("b")
    assert Container(folder=store.root / "a").record() == RECORD


def belong_to_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:  # nobody else can give a folder away
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


@pytest.mark.parametrize(("mode", "is_ours"), [(0o777, True), (0o770, True), (0o700, False)])
def test_store_that_others_may_write_in_is_refused(
    store: ContainerStore, mode: int, *, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another could put a container there, whose life is a process of somebody else."""
    with store.new(RECORD):
        pass
    assert store.look("a") == (RECORD, Status.STOPPED)
    store.root.chmod(mode)
    if not is_ours:
        belong_to_another(store.root, monkeypatch)
    for use in (store.new(RECORD), store.lock("a")):
        with pytest.raises(CcinitError) as error, use:
            pytest.fail("a container of anybody's")
        assert error.value.reason == "container.root"
    with pytest.raises(CcinitError, match="other users may write there"):
        store.look("a")
    assert names(store) == ["a"]


def test_store_without_locks_is_refused_and_left_as_it_was(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""
    with store.new(RECORD):
        pass

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before, descriptors = names(store), count_descriptors()
    for use in (store.new(RECORD), store.lock("a")):
        with pytest.raises(CcinitError, match="No locks available; is --root") as refused, use:
            pytest.fail("nobody could tell what is alive")
        assert refused.value.reason == "container.root"
    assert names(store) == before
    assert count_descriptors() == descriptors
