"""The sealed log: the processor's microseconds for an entry, against AES-GCM of the same records.

Both run natively, from the published root, and encrypt the same records. Lines per second are a
million divided by the first row's number, megabytes per second 64 000 divided by the second's. Ours
also plans and encodes the records, takes a key for each from a ratchet (two HMACs), hashes the
whole stream, signs every 64th record, and keeps what it wrote for the host and the owner plane.

Goal: 15 for both. With AES in the processor, the cipher is the smallest part: the SHA-256 of the
stream alone takes six times as long as encrypting a large record, and a small record's one call of
the cipher comes with a dozen calls in the interpreter. This leaves 50 000 lines per second on a
slow machine.
"""

from functools import partial

from tests.bench.guest_root import ENVIRONMENT, open_guest_root, run
from tests.bench.measurement import Bench, Row, compare, interleave

ROUNDS = 9
GOAL = 15.0
PEER = "AES-256-GCM, a key for each record"
ENTRIES = {"a line of 100 bytes": (100, 4000), "64 000 bytes at once": (64_000, 400)}
"""What is sealed: bytes, and how often for one figure."""


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure both sides of each kind of entry in the same rounds."""
    root = open_guest_root(bench)
    program = root.add_program("seal")

    def side(name: str, length: int, count: int) -> float:
        return float(run(root.command(program, name, str(length), str(count)), ENVIRONMENT))

    rows = []
    for what, (length, count) in ENTRIES.items():
        seen = interleave(
            {
                "ours": partial(side, "log", length, count),
                "peer": partial(side, "cipher", length, count),
            },
            bench.rounds(ROUNDS),
            bench.say,
        )
        rows.append(
            compare(
                f"sealed log: {what}",
                "us",
                ours=seen["ours"],
                peer=seen["peer"],
                peer_name=PEER,
                goal=GOAL,
            )
        )
    return tuple(rows)
