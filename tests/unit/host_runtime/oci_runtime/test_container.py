"""Who is there of a container, by its locks: one life, its machine, and who looks."""

import fcntl
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime import container as container_module
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_state import Status
from host_runtime.oci_runtime.container_store import ContainerStore
from tests.fakes.machine.scarcity import count_descriptors
from tests.unit.host_runtime.oci_runtime.rivals import RECORD, hold, make_anew_meanwhile


@pytest.mark.parametrize(
    ("looks", "sent"),
    [((4321, 4321), [10]), ((4321, None), []), ((None,), []), ((0,), [])],
    ids=["alive", "ended meanwhile", "ended", "not written yet"],
)
def test_process_that_has_got_the_number_of_a_life_is_sent_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: tuple[int | None, ...],
    sent: list[int],
) -> None:
    left, told = iter(looks), list[int]()
    monkeypatch.setattr(Container, "_life", lambda _container: next(left))
    monkeypatch.setattr(os, "pidfd_open", lambda _pid: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _fd, number: told.append(number))
    before = count_descriptors()
    assert Container(folder=tmp_path).send(10) == bool(sent)
    assert told == sent
    assert count_descriptors() == before


def test_process_is_alive_as_long_as_it_holds_its_lock(store: ContainerStore) -> None:
    with store.new(RECORD) as container:
        container.write(RECORD.with_process(os.getpid()))
        assert not container.is_alive()
        (container.folder / "life").touch()
        assert not container.is_alive()  # a file alone is what a host's crash leaves
        life = hold(container.folder / "life")
        assert container.is_alive()
        assert store.look("a")[1] is Status.CREATED
        os.close(life)
        assert store.look("a")[1] is Status.STOPPED


def test_signal_goes_to_whoever_holds_the_lock_and_to_nobody_else(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: sent.append(number))
    with store.new(RECORD) as container:
        assert not container.send(15)  # no file
        container.hold_life()
        assert (container.folder / "life").read_text() == str(os.getpid())
        assert container.send(15)
        (container.folder / "life").unlink()
        (container.folder / "life").write_text(str(os.getpid()))
        assert not container.send(15)  # nobody's lock: that pid is another's by now
        life = hold(container.folder / "life")
        (container.folder / "life").write_text("")
        assert not container.send(15)  # it lives, and has not said who it is
        os.close(life)
    assert sent == [15]


def test_those_who_look_do_not_take_each_other_for_life(store: ContainerStore) -> None:
    with store.new(RECORD) as container:
        (container.folder / "life").touch()
        descriptor = os.open(container.folder / "life", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert not container.is_alive()
        os.close(descriptor)


def test_end_of_a_life_is_noted_where_no_room_is_left(store: ContainerStore) -> None:
    """The place was taken when there was some: a file on a full disk can be overwritten."""
    with store.new(RECORD) as container:
        assert not container.was_killed()  # it has not lived
        container.hold_life()
        path = container.folder / "end"
        before = path.stat()
        assert container.was_killed()
        container.note_end(240)
        after = path.stat()
        assert not container.was_killed()
    assert int(path.read_text()) == 240
    assert after.st_size == before.st_size
    assert after.st_ino == before.st_ino


def test_machine_is_there_as_long_as_one_who_inherited_its_lock(store: ContainerStore) -> None:
    with store.new(RECORD) as container:
        assert not container.has_machine()
        ours = container.hold_machine()
        inherited = os.dup(ours)  # one open file, as across fork
        os.close(ours)
        assert container.has_machine()
        os.close(inherited)
        assert not container.has_machine()


def test_container_has_one_life(store: ContainerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_module, "_LOOK_SECONDS", 0.05)
    with store.new(RECORD) as container:
        container.hold_life()
        with pytest.raises(CcinitError) as error:
            container.hold_life()
    assert error.value.reason == "container.life"


def test_container_that_is_removed_gets_no_life_meanwhile(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_module, "_LOOK_SECONDS", 0.1)
    with store.new(RECORD) as container:
        with container.without_life():
            assert not container.is_alive()  # for those who look
            with pytest.raises(CcinitError) as error:
                container.hold_life()
            assert error.value.reason == "container.life"
        container.hold_life()
        with pytest.raises(CcinitError) as error, container.without_life():
            pass
        assert error.value.reason == "container.life"


def test_life_that_comes_late_is_none_of_the_next_container_of_that_name(
    store: ContainerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a `create` that was killed, whose container is removed and made anew."""
    with store.new(RECORD) as container:
        pass

    removing = ExitStack()
    removing.enter_context(container.without_life())
    make_anew_meanwhile(monkeypatch, store, removing.close)
    with pytest.raises(CcinitError) as error:
        container.hold_life()
    assert error.value.reason == "container.unknown"
    assert not (store.root / "a" / "end").exists()
    container.hold_life()  # the next one's own
