"""Scratch in a guest, profile by profile, against the disk itself and against plain encryption.

One boot of the test guest measures all sides in turns; it has the guest's kernel, and its disks are
QEMU's. What the disk itself does with the same file system is the floor of every row.

Goals. Plain encryption over the disk: 3, which leaves AES two thirds of the time under emulation.
Integrity over plain encryption: 3; it adds an HMAC over every block and a random IV to an AES that
is done in both. From raw to mounted over mkfs.ext4 on the disk itself: 3, because there is no wipe
pass, which would make it hundreds.
"""

import json
from collections.abc import Mapping, Sequence

from tests.bench.measurement import Bench, BenchError, Row, compare
from tests.vm.harness.boot import boot_guest

PROGRAM = "tests/vm/guest/bench_storage.py::test_measure_scratch[{rounds}]"
ROUNDS = 5
FILE_MIB = 32
GOAL = 3.0
BARE, CRYPT = "bare", "crypt"
INTEGRITY = ("aead-ram", "aead-disk")
Rounds = Mapping[str, Sequence[Mapping[str, float]]]


def measure(bench: Bench) -> tuple[Row, ...]:
    """Boot once and make rows of what the guest saw.

    Raises:
        BenchError: the guest did not measure.
    """
    bench.say("one boot of the test guest")
    program = PROGRAM.format(rounds=bench.rounds(ROUNDS))
    return rows_of(read_rounds(boot_guest([program], "storage bench").reports.get(program, [])))


def rows_of(seen: Rounds) -> tuple[Row, ...]:
    """Make the rows."""
    rows = [
        _row(seen, f"scratch {CRYPT}: write {FILE_MIB} MiB", "write_ms", CRYPT, BARE),
        _row(seen, f"scratch {CRYPT}: read {FILE_MIB} MiB", "read_ms", CRYPT, BARE),
    ]
    for profile in INTEGRITY:
        for what, key in (("write", "write_ms"), ("read", "read_ms")):
            name = f"scratch {profile}: {what} {FILE_MIB} MiB"
            rows.append(_row(seen, name, key, profile, CRYPT))
    rows += [
        _row(seen, f"scratch {profile}: 64 GiB from raw to mounted", "mount_ms", profile, BARE)
        for profile in (*INTEGRITY, CRYPT)
    ]
    return tuple(rows)


def read_rounds(reports: Sequence[Mapping[str, object]]) -> Rounds:
    """Return what the guest printed.

    Raises:
        BenchError: it failed, or printed something else.
    """
    for report in reports:
        sections = report.get("sections")
        if report.get("when") != "call" or not isinstance(sections, list):
            continue
        for title, text in sections:
            if title == "Captured stdout call" and report.get("outcome") == "passed":
                seen: Rounds = json.loads(text)
                return seen
    raise BenchError("the guest did not measure its disks")


def _row(seen: Rounds, name: str, key: str, ours: str, peer: str) -> Row:
    return compare(
        name,
        "ms",
        ours=[values[key] for values in seen[ours]],
        peer=[values[key] for values in seen[peer]],
        floor=[values[key] for values in seen[BARE]],
        peer_name="ext4 on the disk itself" if peer == BARE else "plain dm-crypt, AES-256-XTS",
        goal=GOAL,
    )
