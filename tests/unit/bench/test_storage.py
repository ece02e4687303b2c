"""What the storage rows make of a guest's report."""

import json

import pytest

from tests.bench.measurement import BenchError
from tests.bench.rows.storage import read_rounds, rows_of

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
    assert {row.floor for row in rows.values()} == {10, 20, 5}
