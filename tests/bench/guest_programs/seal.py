"""Seal entries as PID 1 does, or only encrypt as many bytes with AES-GCM.

Arguments: `log` or `cipher`, bytes of one entry, how many. Prints microseconds of processor time
for each entry: nothing here waits, and a busy machine must not distort the figure.
"""

# ruff: noqa: E402  # the first import changes what the others load

from ccinit.init.lean import hash_without_openssl

hash_without_openssl()

import os
import sys
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ccinit.formats.sealed_log import BootId, Kind, plan_pieces
from ccinit.seal.log import SealedLog
from ccinit.secret import Secret

SOURCE = "container"


def open_log() -> SealedLog:
    """Return a log that takes everything, encrypted to a key that nobody has."""
    halves = (MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())
    log = SealedLog()
    log.open(b"".join(key.public_key().public_bytes_raw() for key in halves), BootId(bytes(16)))
    log.bind(b"evidence")
    log.mix(Secret(os.urandom(32)))
    return log


def seal_into(log: SealedLog, entry: bytes) -> Callable[[], None]:
    """Return a step that seals one entry; the host collects at once what there is."""

    def step() -> None:
        if not log.append(Kind.STDOUT, SOURCE, entry):
            raise RuntimeError("the ring is full")
        log.ring.collect(log.ring.end, 0)

    return step


def encrypt(entry: bytes) -> Callable[[], None]:
    """Return a step that encrypts the records that an entry becomes, and nothing more."""
    records = [bytes(piece.size_class.plain_bytes) for piece in plan_pieces(len(entry), SOURCE)]
    key, nonce, context = os.urandom(32), bytes(12), bytes(41)

    def step() -> None:
        for record in records:
            AESGCM(key).encrypt(nonce, record, context)  # each record has a key of its own

    return step


def main() -> None:
    """Measure one side."""
    side, length, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    entry = os.urandom(length)
    step = seal_into(open_log(), entry) if side == "log" else encrypt(entry)
    step()
    began = time.process_time()
    for _ in range(count):
        step()
    print((time.process_time() - began) / count * 1e6)


main()
