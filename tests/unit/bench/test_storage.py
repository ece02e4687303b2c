"""What the storage rows make of a guest's report."""

import json

import pytest

from tests.bench.measurement import BenchError
from tests.bench.rows.storage import CIPHERS, cipher_rows, read_rounds, rows_of, tag_rows

SIDES = ("bare", "crypt", "aead-ram", "aead-disk")
SEEN = {
    side: [
        {"write_ms": 10.0 * factor, "read_ms": 20.0 * factor, "mount_ms": 5.0 * factor}
        for _ in range(3)
    ]
    for factor, side in enumerate(SIDES, 1)
}
CALL = {
    "when": "call",
    "outcome": "passed",
    "sections": [["Captured stdout call", json.dumps(SEEN)]],
}


def test_rounds_are_read_from_the_report_of_the_call() -> None:
    assert read_rounds([{"when": "setup", "sections": []}, CALL]) == SEEN


@pytest.mark.parametrize(
    "reports", [[], [CALL | {"outcome": "failed"}], [CALL | {"sections": []}]], ids=str
)
def test_guest_that_did_not_measure_is_an_error(reports: list[dict[str, object]]) -> None:
    with pytest.raises(BenchError):
        read_rounds(reports)


def test_integrity_is_compared_with_encryption_and_encryption_with_the_disk() -> None:
    rows = {row.name: row for row in rows_of(SEEN)}
    assert rows["scratch crypt: write 32 MiB"].ratio == 2
    assert rows["scratch aead-ram: read 32 MiB"].ratio == pytest.approx(1.5)
    assert rows["scratch aead-disk: write 32 MiB"].ratio == 2
    assert rows["scratch aead-ram: 64 GiB from raw to mounted"].ratio == 3
    assert {row.floor for row in rows.values()} == {10, 20, 5, None}
    assert rows["scratch aead-disk: 64 GiB from raw to mounted, as time"].ratio == 0.02


def test_cipher_is_compared_with_the_others() -> None:
    seen = {
        name: [{"write_ms": 10.0 * factor, "read_ms": 20.0 * factor}] * 3
        for factor, name in enumerate(("none", "xts-hmac", *CIPHERS), 1)
    }
    rows = {row.name: row for row in cipher_rows(seen)}
    assert len(rows) == 2 * len(CIPHERS)
    plain = rows["scratch cipher against plain dm-crypt, AES-256-XTS: write 32 MiB"]
    assert (plain.ours, plain.peer, plain.floor) == (20, 30, 10)
    assert rows["scratch cipher against ChaCha20-Poly1305: read 32 MiB"].ratio == 0.25


def test_tags_in_memory_are_compared_with_their_length() -> None:
    (row,) = tag_rows({"aead-ram": [{"tags_mib": 80.0}], "aead-disk": [{"tags_mib": 2.0}]})
    assert (row.ratio, row.met) == (1.25, False)
    with pytest.raises(BenchError):
        tag_rows({"aead-ram": [{"tags_mib": 80.0}], "aead-disk": [{"tags_mib": 50.0}]})
