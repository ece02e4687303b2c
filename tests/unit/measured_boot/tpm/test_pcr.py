import hashlib
import json
from pathlib import Path

import pytest

from measured_boot.tpm.pcr import (
    ZERO_PCR,
    EventKind,
    extend,
    measure,
    replay,
    replay_events,
)

RECORDED = json.loads(Path("tests/vectors/measured_boot/uki.json").read_text())


def test_extend_is_the_hash_of_old_value_and_digest() -> None:
    digest = hashlib.sha256(b"x").digest()
    assert extend(ZERO_PCR, digest) == hashlib.sha256(bytes(32) + digest).digest()


def test_extend_refuses_another_algorithms_digest() -> None:
    assert extend(ZERO_PCR, bytes(32)) != ZERO_PCR
    with pytest.raises(ValueError, match="20 bytes"):
        extend(ZERO_PCR, bytes(20))


@pytest.mark.parametrize("register", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15])
def test_replay_of_recorded_events_gives_the_recorded_register(register: int) -> None:
    digests = [bytes.fromhex(row[2]) for row in RECORDED["events"] if row[0] == register]
    assert replay(digests).hex() == RECORDED["pcr"][str(register)]


def test_replay_depends_on_order() -> None:
    one, two = bytes([1]) * 32, bytes([2]) * 32
    assert replay((one, two)) != replay((two, one))


def test_measure_hashes_all_pieces_with_both_algorithms() -> None:
    event = measure(9, EventKind.TAG, (b"ab", memoryview(b"c")), "three letters")
    assert event.digest == hashlib.sha256(b"abc").digest()
    assert event.wide_digest == hashlib.sha384(b"abc").digest()
    assert (event.register, event.kind, event.subject) == (9, EventKind.TAG, "three letters")


def test_replay_events_keeps_registers_apart_and_unused_ones_zero() -> None:
    one, two, three = (hashlib.sha256(bytes([number])).digest() for number in range(3))
    registers = replay_events(
        measure(register, EventKind.IPL, (bytes([number]),), "")
        for number, register in enumerate((4, 11, 4))
    )
    assert registers == {4: replay((one, three)), 9: ZERO_PCR, 11: replay((two,))}
