"""Cursor semantics of the sealed bytes' ring (R91)."""

import pytest

from ccinit.errors import PeerError
from ccinit.seal.ring import Chunk, SealedRing


def ring_with(data: bytes) -> SealedRing:
    ring = SealedRing(16)
    ring.append(data)
    return ring


def test_read_from_the_start_gives_the_oldest_bytes() -> None:
    ring = ring_with(b"abcdef")
    assert ring.read(0, 4) == Chunk(data=b"abcd", following=4, last=False)
    assert ring.read(4, 4) == Chunk(data=b"ef", following=6, last=False)
    assert ring.read(6, 4) == Chunk(data=b"", following=6, last=False)


def test_waiting_says_whether_something_is_new() -> None:
    ring = ring_with(b"abc")
    assert ring.is_readable(0)
    assert not ring.is_readable(3)
    ring.close()
    assert ring.is_readable(3)


def test_cursor_beyond_the_stream_is_refused() -> None:
    ring = ring_with(b"abc")
    for cursor in (4, 2**64 - 1, -1):
        with pytest.raises(PeerError) as error:
            ring.collect(cursor, 4)
        assert error.value.reason == "collect.cursor"
    assert ring.room == 13


def test_bytes_nobody_acknowledged_are_kept_and_new_ones_refused() -> None:
    ring = ring_with(b"a" * 16)
    assert ring.room == 0
    with pytest.raises(RuntimeError):
        ring.append(b"b")
    assert ring.collect(0, 16).data == b"a" * 16
    assert ring.room == 0, "handing bytes out is no receipt"
    ring.collect(10, 16)
    assert ring.room == 10


def test_acknowledged_bytes_stay_until_their_room_is_needed() -> None:
    ring = ring_with(b"0123456789abcdef")
    ring.collect(12, 16)
    assert ring.read(0, 4).data == b"0123"
    ring.append(b"GHIJ")
    assert ring.read(0, 4) == Chunk(data=b"4567", following=8, last=False)
    assert ring.end == 20


def test_only_the_newest_acknowledged_bytes_are_kept() -> None:
    ring = SealedRing(16, kept=4)
    ring.append(b"0123456789abcdef")
    chunk = ring.collect(12, 2)
    assert chunk == Chunk(data=b"cd", following=14, last=False)
    assert ring.read(0, 16) == Chunk(data=b"89abcdef", following=16, last=False)
    assert ring.room == 12
    ring.append(b"GHIJKLMNOPQR")
    assert ring.read(12, 16).data == b"cdefGHIJKLMNOPQR"


def test_receipt_is_not_taken_back_by_an_older_cursor() -> None:
    ring = ring_with(b"a" * 16)
    ring.collect(16, 1)
    ring.collect(0, 1)
    assert ring.room == 16


def test_last_comes_with_the_last_byte_of_a_closed_stream() -> None:
    ring = ring_with(b"abcd")
    ring.close()
    assert not ring.read(0, 3).last
    assert ring.read(3, 3).last
    assert ring.read(4, 3) == Chunk(data=b"", following=4, last=True)
    with pytest.raises(RuntimeError):
        ring.append(b"e")


def test_held_bytes_are_not_there_for_readers() -> None:
    ring = ring_with(b"abcdef")
    ring.release(2)
    assert ring.read(0, 16) == Chunk(data=b"ab", following=2, last=False)
    assert not ring.is_readable(2)
    with pytest.raises(PeerError):
        ring.collect(3, 16)
    ring.append(b"gh")
    assert not ring.is_readable(2)
    ring.release(7)
    assert ring.read(2, 16) == Chunk(data=b"cdefg", following=7, last=False)


def test_end_shows_what_was_held() -> None:
    ring = ring_with(b"abc")
    ring.release(1)
    ring.close()
    assert ring.read(1, 16) == Chunk(data=b"bc", following=3, last=True)


@pytest.mark.parametrize("end", [1, 4])
def test_release_goes_forward_and_not_beyond_the_end(end: int) -> None:
    ring = ring_with(b"abc")
    ring.release(2)
    with pytest.raises(RuntimeError):
        ring.release(end)
