"""PID 1's start and its memory at LISTEN, against an interpreter that does nothing.

Both run natively, from the published root, by chroot: PID 1's program imports what PID 1 imports
up to LISTEN and answers a hello over a socket pair; the peer writes one byte. The floor of the
start is the dynamic loader printing its version. In a guest, under emulation, everything takes
longer; the boot's rows show it.

Goals. Start: 5. Little of an interpreter's start can be saved, so this is the budget for our own
imports: four times what Python takes for itself. Memory: 1.7. DESIGN section 9 measured
7 MB for a bare interpreter and 11.6 MB with what a host plane needs (sockets, selectors, ctypes,
msgpack, dataclasses, enum); PID 1 should not hold more before it has a key.
"""

from ccinit.formats.planes.host_rpc import PROTOCOL, REPLY_BYTES
from ccinit.formats.planes.msgpack_rpc import encode_request
from tests.bench.guest_root import open_guest_root
from tests.bench.interpreter import start_bare, start_loader, start_pid1
from tests.bench.measurement import Bench, Row, compare, interleave

ROUNDS = 21
START_GOAL = 5.0
MEMORY_GOAL = 1.7
BARE = "python3.13 -I -S, bare"
_MIB = 1 << 20


def measure(bench: Bench) -> tuple[Row, ...]:
    """Measure start and memory in the same rounds."""
    root = open_guest_root(bench)
    program = root.add_program("pid1")
    hello = encode_request(1, "hello", (PROTOCOL,))
    seen = interleave(
        {
            "ours": lambda: start_pid1(root, program, hello, REPLY_BYTES),
            "peer": lambda: start_bare(root),
            "floor": lambda: start_loader(root),
        },
        bench.rounds(ROUNDS),
        bench.say,
    )
    ours, peer = seen["ours"], seen["peer"]
    return (
        compare(
            "PID 1: exec to first RPC answer",
            "ms",
            ours=[start.milliseconds for start in ours],
            peer=[start.milliseconds for start in peer],
            floor=[start.milliseconds for start in seen["floor"]],
            peer_name=BARE,
            goal=START_GOAL,
        ),
        compare(
            "PID 1: PSS at LISTEN",
            "MiB",
            ours=[start.pss_bytes / _MIB for start in ours],
            peer=[start.pss_bytes / _MIB for start in peer],
            peer_name=BARE,
            goal=MEMORY_GOAL,
        ),
    )
