"""Scratch in a guest, profile by profile, against the disk itself and against plain encryption.

One boot of the test guest measures all sides in turns; it has the guest's kernel, and its disks are
QEMU's. What the disk itself does with the same file system is the floor of every row.

Goals. Plain encryption over the disk: 3, which leaves AES two thirds of the time under emulation.
Integrity over plain encryption: 3; it adds an HMAC over every block and a random IV to the AES that
both do. From raw to mounted over mkfs.ext4 on the disk itself: 3, because there is no wipe pass,
which would make it hundreds; and one second in absolute terms, under emulation, too. Memory for
tags over their length: 1.2, for the pages of the tree in which brd keeps them.

The cipher, below any file system, against no tags at all and against dm-crypt's other authenticated
ciphers: 3, as for integrity; within that, decision 11 chose by other criteria than time.
"""

import json
from collections.abc import Mapping, Sequence

from tests.bench.measurement import Bench, BenchError, Row, compare
from tests.vm.harness.boot import boot_guest

PROGRAM = "tests/vm/guest/bench_storage.py::test_measure_scratch[{rounds}]"
CIPHERS_PROGRAM = "tests/vm/guest/bench_ciphers.py::test_measure_ciphers[{rounds}]"
TAGS_PROGRAM = "tests/vm/guest/bench_storage.py::test_measure_tags"
MODULES = (
    *("gcm", "ghash_clmulni_intel", "aegis128_aesni", "aegis128"),
    *("chacha20poly1305", "chacha_x86_64", "poly1305_x86_64"),
)
ROUNDS = 5
FILE_MIB = 32
CIPHER_MIB = 32
GOAL = 3.0
MOUNT_MS = 1000.0
TAGS_GOAL = 1.2
TAGS_MIB = 8 * 8  # of 8 GiB: 32 bytes for each 4096
BARE, CRYPT = "bare", "crypt"
NO_CIPHER, OUR_CIPHER = "none", "xts-hmac"
CIPHERS = {
    "xts": "plain dm-crypt, AES-256-XTS",
    "xts-hmac-long": "the same with a tag of 48 bytes",
    "xts-hmac-plain64": "the same with an IV by sector",
    "gcm": "AES-256-GCM",
    "aegis128": "AEGIS-128",
    "chacha20-poly1305": "ChaCha20-Poly1305",
}
INTEGRITY = ("aead-ram", "aead-disk")
Rounds = Mapping[str, Sequence[Mapping[str, float]]]


def measure(bench: Bench) -> tuple[Row, ...]:
    """Boot once and make rows of what the guest saw.

    Raises:
        BenchError: the guest did not measure.
    """
    bench.say("one boot of the test guest")
    rounds = bench.rounds(ROUNDS)
    programs = [
        PROGRAM.format(rounds=rounds),
        CIPHERS_PROGRAM.format(rounds=rounds),
        TAGS_PROGRAM,
    ]
    reports = boot_guest(programs, "storage bench", modules=MODULES).reports
    seen, ciphers, tags = (read_rounds(reports.get(program, [])) for program in programs)
    return (*rows_of(seen), *cipher_rows(ciphers), *tag_rows(tags))


def cipher_rows(seen: Rounds) -> tuple[Row, ...]:
    """Make the rows of the cipher."""
    return tuple(
        compare(
            f"scratch cipher against {words}: {what} {CIPHER_MIB} MiB",
            "ms",
            ours=[values[key] for values in seen[OUR_CIPHER]],
            peer=[values[key] for values in seen[name]],
            floor=[values[key] for values in seen[NO_CIPHER]],
            peer_name=words,
            goal=GOAL,
        )
        for name, words in CIPHERS.items()
        for what, key in (("write", "write_ms"), ("read", "read_ms"))
    )


def tag_rows(seen: Rounds) -> tuple[Row, ...]:
    """Make the row of what tags in memory take; on the disk they must take none of it."""
    on_disk = max(values["tags_mib"] for values in seen["aead-disk"])
    if on_disk > TAGS_MIB / 4:
        raise BenchError(f"tags on the disk took {on_disk:.0f} MiB of memory")
    return (
        compare(
            "scratch aead-ram: memory for the tags of 8 GiB",
            "MiB",
            ours=[values["tags_mib"] for values in seen["aead-ram"]],
            peer=[float(TAGS_MIB)] * len(seen["aead-ram"]),
            peer_name="the tags' own length",
            goal=TAGS_GOAL,
        ),
    )


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
    rows += [
        compare(
            f"scratch {profile}: 64 GiB from raw to mounted, as time",
            "ms",
            ours=[values["mount_ms"] for values in seen[profile]],
            peer=[MOUNT_MS] * len(seen[profile]),
            peer_name="one second",
            goal=1.0,
        )
        for profile in INTEGRITY
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
