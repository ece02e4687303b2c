"""QEMU's machine protocol against a peer that says whatever a guest makes QEMU say."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import DeadlineError, PeerError
from host_runtime.machine import qmp
from host_runtime.machine.qmp import QmpClient

EVENT = b'{"event": "GUEST_CRASHLOADED", "data": {"action": "run"}}\n'
DONE = b'{"return": {}}\n'


@contextmanager
def monitor(folder: Path, *said: bytes) -> Iterator[QmpClient]:
    """A client of a QEMU that says `said` behind the greeting, all of it at once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "qmp"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b'{"QMP": {}}\n' + DONE)
                try:
                    for words in said:
                        connection.sendall(words)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass
                except OSError:  # the client has had enough
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        with QmpClient(folder / "qmp", folder / "events") as client:
            yield client
        thread.join()


def test_event_before_an_answer_is_kept_and_written_down(tmp_path: Path) -> None:
    with monitor(tmp_path, EVENT, DONE) as client:
        client.execute("cont")
        event = client.next_event(60)
        assert event is not None
        assert (event.name, event.data) == ("GUEST_CRASHLOADED", {"action": "run"})
        assert client.next_event(60) is None
    assert (tmp_path / "events").read_bytes() == EVENT


def test_file_of_events_ends_after_a_mebibyte(tmp_path: Path) -> None:
    count = (1 << 20) // len(EVENT) + 100
    with monitor(tmp_path, EVENT * count) as client:
        for _ in range(count):
            assert client.next_event(60) is not None
    size = (tmp_path / "events").stat().st_size
    assert 1 << 20 <= size < (1 << 20) + len(EVENT)


def test_events_do_not_put_an_answers_deadline_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = (EVENT * 100 for _ in range(10_000))
    with monitor(tmp_path, *flood) as client:  # the greeting has its time
        monkeypatch.setattr(qmp, "_CALL_SECONDS", 0.2)
        with pytest.raises(DeadlineError) as caught:
            client.execute("cont")
    assert caught.value.reason == "qmp.silent"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'{"error": {"class": "GenericError", "desc": "no"}}\n', "qmp.refused"),
        (b"", "qmp.closed"),
        (b"[]\n", "qmp.message"),
        (b"{\n", "qmp.message"),
        (b"\xff\n", "qmp.message"),
        (b"[" * 100_000 + b"\n", "qmp.message"),
        (b"x" * (1 << 20) + b"xx", "qmp.message"),
    ],
)
def test_answer_that_is_none_is_refused(tmp_path: Path, answer: bytes, reason: str) -> None:
    with monitor(tmp_path, answer) as client, pytest.raises(PeerError) as caught:
        client.execute("cont")
    assert caught.value.reason == reason


def test_event_that_finds_no_room_or_has_no_data_is_an_event(tmp_path: Path) -> None:
    (tmp_path / "events").symlink_to("/dev/full")
    with monitor(tmp_path, EVENT, b'{"event": "STOP", "data": 1}\n') as client:
        for name, data in (("GUEST_CRASHLOADED", {"action": "run"}), ("STOP", {})):
            event = client.next_event(60)
            assert event is not None
            assert (event.name, event.data) == (name, data)
