"""What is collected from a guest stands in its file whole, once, and without a gap."""

import fcntl
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest

from ccinit.errors import ConfigError, PeerError
from ccinit.formats.planes.host_rpc import METHODS
from ccinit.formats.planes.msgpack_rpc import RequestReader, encode_result
from host_runtime.plane.log_collection import LogCollection
from host_runtime.plane.rpc_client import GuestClient
from tests.fakes.machine.scarcity import room_for

MIB = 1 << 20
Piece = tuple[int, bool, bytes]
"""Cursor behind it, whether it is the last, its bytes."""


@contextmanager
def guest_with(*pieces: Piece) -> Iterator[tuple[GuestClient, socket.socket]]:
    """Give a client, and the end of the guest that has answered already."""
    guest, outside = socket.socketpair()
    for msgid, piece in enumerate(pieces, start=1):
        guest.sendall(encode_result(msgid, METHODS["collect"], piece))
    with guest, GuestClient(lambda: outside) as client:
        yield client, guest


def asked_of(guest: socket.socket) -> Sequence[object]:
    """Return the parameters of each call so far."""
    return [request.params for request in RequestReader().feed(guest.recv(4096))]


def test_collection_goes_on_where_the_file_ends(tmp_path: Path) -> None:
    log = tmp_path / "sealed.log"
    log.write_bytes(b"abc")
    with guest_with((5, False, b"de"), (5, False, b"")) as (client, guest):
        assert LogCollection(output=log, limit_bytes=MIB).run(client) == 5
        assert asked_of(guest) == [(3, 0), (5, 0)]
    assert log.read_bytes() == b"abcde"


def test_collection_to_the_end_waits_for_it(tmp_path: Path) -> None:
    log = tmp_path / "sealed.log"
    with guest_with((2, False, b"ab"), (2, False, b""), (3, True, b"c")) as (client, guest):
        assert LogCollection(output=log, limit_bytes=MIB, follow=True).run(client) == 3
        assert asked_of(guest) == [(0, 10_000), (2, 10_000), (2, 10_000)]
    assert log.read_bytes() == b"abc"


def test_file_that_another_one_adds_to_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "sealed.log"
    with guest_with((2, True, b"de")) as (client, _guest), log.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConfigError) as refused:
            LogCollection(output=log, limit_bytes=MIB).run(client)
        assert refused.value.reason == "collect.busy"
        assert log.read_bytes() == b""
        fcntl.flock(other, fcntl.LOCK_UN)
        assert LogCollection(output=log, limit_bytes=MIB).run(client) == 2
    assert log.read_bytes() == b"de"


def test_collection_goes_on_behind_what_another_one_has_just_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish_the_other(output: BinaryIO, operation: int) -> None:
        with log.open("ab") as other:
            other.write(b"de")
        flock(output, operation)

    flock, log = fcntl.flock, tmp_path / "sealed.log"
    log.write_bytes(b"abc")
    monkeypatch.setattr(fcntl, "flock", finish_the_other)
    with guest_with((6, True, b"f")) as (client, guest):
        assert LogCollection(output=log, limit_bytes=MIB).run(client) == 6
        assert asked_of(guest) == [(5, 0)]
    assert log.read_bytes() == b"abcdef"


@pytest.mark.parametrize("is_there", [True, False])
def test_collection_from_nobody_makes_no_file(tmp_path: Path, *, is_there: bool) -> None:
    def refuse() -> NoReturn:
        raise PeerError("vsock.refused", "no guest answers")

    log = tmp_path / "sealed.log"
    if is_there:
        log.touch()
    with pytest.raises(PeerError) as refused, GuestClient(refuse) as client:
        LogCollection(output=log, limit_bytes=MIB).run(client)
    assert refused.value.reason == "vsock.refused"
    assert log.exists() is is_there


def test_what_the_guest_has_no_longer_is_no_gap_in_a_file(tmp_path: Path) -> None:
    log = tmp_path / "sealed.log"
    log.write_bytes(b"abc")
    with guest_with((9, False, b"de")) as (client, _guest), pytest.raises(PeerError) as refused:
        LogCollection(output=log, limit_bytes=MIB).run(client)
    assert refused.value.reason == "collect.gap"
    assert "ends at 3, what the guest still has begins at 7" in refused.value.detail
    assert log.read_bytes() == b"abc"


def test_file_that_is_full_is_gone_on_with_as_it_says(tmp_path: Path) -> None:
    log, rest = tmp_path / "sealed.log", tmp_path / "rest.log"
    log.write_bytes(bytes(MIB - 2))
    pieces = [(MIB, False, b"ab"), (MIB + 1, True, b"c")]
    with guest_with(*pieces) as (client, _guest), pytest.raises(PeerError) as refused:
        LogCollection(output=log, limit_bytes=MIB, follow=True).run(client)
    assert refused.value.reason == "collect.limit"
    assert "limit of 1 MiB" in refused.value.detail
    assert refused.value.detail.endswith(f"--cursor {MIB}")
    assert (log.stat().st_size, log.read_bytes()[-2:]) == (MIB, b"ab")
    for collection in (
        LogCollection(output=rest, limit_bytes=MIB, cursor=MIB, follow=True),
        LogCollection(output=log, limit_bytes=2 * MIB, follow=True),
    ):
        with guest_with(pieces[1]) as (client, _guest):
            assert collection.run(client) == MIB + 1
    assert rest.read_bytes() == b"c"
    assert log.stat().st_size == MIB + 1


def test_collection_from_a_place_of_ones_own_begins_with_what_there_is(tmp_path: Path) -> None:
    """Then the end of the file says nothing, and what the guest no longer has is no gap in it."""
    log = tmp_path / "sealed.log"
    log.write_bytes(b"abc")
    with guest_with((9, True, b"de")) as (client, guest):
        assert LogCollection(output=log, limit_bytes=MIB, cursor=5).run(client) == 9
        assert asked_of(guest) == [(5, 0)]
    assert log.read_bytes() == b"abcde"


def test_what_came_of_a_guest_that_then_was_gone_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "sealed.log"
    with guest_with((2, False, b"ab")) as (client, guest):
        guest.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerError):
            LogCollection(output=log, limit_bytes=MIB, follow=True).run(client)
    assert log.read_bytes() == b"ab"


def test_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    log = tmp_path / "sealed.log"
    with (
        guest_with((3, True, b"abc")) as (client, _guest),
        room_for(2),
        pytest.raises(OSError, match="File too large") as refused,
    ):
        LogCollection(output=log, limit_bytes=MIB).run(client)
    assert refused.value.filename == str(log)
