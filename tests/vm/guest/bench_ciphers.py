"""Measures ciphers of dm-crypt below any file system; `tests.bench.rows.storage` reads the result.

Not collected as a test. Tables are written here and not taken from the product, which has one
cipher. Tags are in memory for each side that has any, so that only the cipher differs.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from ccinit.kernel.block import read_direct, write_direct
from ccinit.kernel.dm import DmControl, DmTarget
from ccinit.kernel.keyring import add_logon_key, remove_key
from ccinit.secret import Secret
from tests.vm.guest.disks import disk

MIB = 1 << 20
SIZE_MIB = 32
PIECE = os.urandom(MIB)
META = "/dev/ram2"
MAX_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Side:
    """A cipher, the bytes of its key, and those of its tag for each 4096 bytes; 0 without one."""

    cipher: str
    key_bytes: int
    tag_bytes: int


SIDES = {
    "none": None,
    "xts": Side("capi:xts(aes)-plain64", 64, 0),
    "xts-hmac": Side("capi:authenc(hmac(sha256),xts(aes))-random", 96, 32),
    "xts-hmac-long": Side("capi:authenc(hmac(sha256),xts(aes))-random", 96, 48),
    "xts-hmac-plain64": Side("capi:authenc(hmac(sha256),xts(aes))-plain64", 96, 32),
    "gcm": Side("capi:gcm(aes)-random", 32, 28),
    "aegis128": Side("capi:aegis128-random", 16, 32),
    "chacha20-poly1305": Side("capi:rfc7539(chacha20,poly1305)-random", 32, 28),
}


@contextmanager
def opened(side: Side | None) -> Iterator[str]:
    """The device to write to."""
    device = disk("small")
    if side is None:
        yield device.node
        return
    sectors = device.size_bytes // 512
    with ExitStack() as undo:
        control = undo.enter_context(DmControl())
        below, option = device.node, "1"
        if side.tag_bytes:
            write_direct(META, 0, bytes(4096))
            integrity = control.create("bench-integrity")
            undo.callback(control.remove, integrity)
            options = f"3 block_size:4096 meta_device:{META} journal_sectors:32"
            table = f"{device.node} 0 {side.tag_bytes} D {options}"
            control.load(integrity, (DmTarget(length_sectors=sectors, kind="integrity",
                                              parameters=table),))  # fmt: skip
            control.resume(integrity)
            below, option = integrity.node, f"2 integrity:{side.tag_bytes}:aead"
        crypt = control.create("bench-crypt")
        undo.callback(control.remove, crypt)
        key = add_logon_key("ccinit:bench", Secret(os.urandom(side.key_bytes)))
        undo.callback(remove_key, key)
        table = (
            f"{side.cipher} :{side.key_bytes}:logon:ccinit:bench 0 {below} 0"
            f" {option} sector_size:4096"
        )
        control.load(crypt, (DmTarget(length_sectors=sectors, kind="crypt", parameters=table),))
        control.resume(crypt)
        yield crypt.node


def measure(side: Side | None) -> dict[str, float]:
    """Milliseconds to write and to read, past the page cache."""
    with opened(side) as node:
        began = time.perf_counter()
        for index in range(SIZE_MIB):
            write_direct(node, index * MIB, PIECE)
        written = time.perf_counter()
        for index in range(SIZE_MIB):
            assert len(read_direct(node, index * MIB, MIB)) == MIB
        read = time.perf_counter()
    return {"write_ms": (written - began) * 1000, "read_ms": (read - written) * 1000}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", range(1, MAX_ROUNDS + 1))
def test_measure_ciphers(rounds: int) -> None:
    """Print one JSON object: for each side a list of rounds, the warm-up left out."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for number in range(rounds + 1):
        for name, side in SIDES.items():
            values = measure(side)
            if number:
                seen[name].append(values)
    print(json.dumps(seen))
