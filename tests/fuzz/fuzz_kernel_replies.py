"""Invariant: whatever the kernel's answers about a socket, a mapping, its log or a report hold is
read within its own bounds or refused with a `CcinitError`; a caller is named only by a whole cgroup
id in an answer about that very connection, which is established.

Run as `python -m tests.fuzz.fuzz_kernel_replies [SECONDS [SEED]]`.
"""

import contextlib
import errno
import random
import struct

from ccinit.errors import CcinitError, KernelError
from ccinit.kernel.dm import DmReply, encode_request, parse_reply, parse_targets
from ccinit.kernel.kmsg import parse_record
from ccinit.kernel.sev_guest import RESPONSE_BYTES, parse_response
from ccinit.kernel.sock_diag import read_cgroup_id
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

LOOPBACK = b"\x7f\0\0\1"
MAPPED = bytes(10) + b"\xff\xff" + LOOPBACK
PORTS = struct.pack("!HH", 40000, 8006)
NUMBERS = PORTS + LOOPBACK + bytes(12) + LOOPBACK + bytes(12)
SAME = (NUMBERS, PORTS + MAPPED + MAPPED)
OTHER = (PORTS + LOOPBACK + bytes(28), bytes(2) + NUMBERS[2:], PORTS + MAPPED + bytes(16))
ESTABLISHED, STATES = 1, (1, 1, 1, 1, 0, 6, 10, 255)
CGROUP_ID, CGROUP_BYTES = 21, 12
DONE, ERROR, DIAGNOSIS = 3, 2, 20
WHOLE_BYTES = 88

DM_TARGET = struct.Struct("=QQiI16s")
DM_STATUS = b"".join(
    DM_TARGET.pack(8 * number, 8, 0, 56 * (number + 1), b"crypt") + b"0 2048 -".ljust(16, b"\0")
    for number in range(2)
)
DM = bytes(encode_request("scratch", 0, DM_STATUS, target_count=2))[: 312 + len(DM_STATUS)]
KMSG = b"6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n"
REPORT = struct.pack("<II24x", 0, 1184) + bytes(100)
SEEDS = (DM, DM_STATUS, KMSG, REPORT)
NOISE = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff", b",", b";", b"-", "²".encode(), b"9" * 5000)


def check_socket(source: random.Random) -> int:
    """Ask about a connection; return whether somebody was named."""
    state, numbers = source.choice(STATES), source.choice((*SAME, *SAME, *OTHER))
    body = struct.pack("=BBBB", 2, state, 0, 0) + numbers + bytes(32)
    kind = source.choice((DIAGNOSIS,) * 8 + (DONE, ERROR))
    is_right = (kind, state) == (DIAGNOSIS, ESTABLISHED) and numbers in SAME
    attributes, named, spoilt = make_attributes(source)
    head = struct.pack("=IHHII", WHOLE_BYTES + len(attributes), kind, 0, 1, 0)
    reply = head + body + attributes
    if source.randrange(4) == 0:
        reply = reply[: source.choice((19, 20, 87, 88, source.randrange(len(reply))))]
        # an id that is cut off is nobody's, nor is what stands before it
        named = named if named and len(reply) - WHOLE_BYTES >= named[1] else None
        spoilt = True
    found, error = ask(reply)
    if len(reply) < WHOLE_BYTES or kind != DIAGNOSIS:
        assert found is None
    elif error is None:
        assert found == (named[0] if is_right and named else None), (reply, found)
    else:
        assert is_right, (reply, error)
        assert spoilt, (reply, error)
        assert named is None, (reply, error)
    return int(found is not None)


def ask(reply: bytes) -> tuple[int | None, KernelError | None]:
    """Return whom a reply names, or how it was refused."""
    try:
        return read_cgroup_id(reply, NUMBERS), None
    except KernelError as error:
        return None, error


def make_attributes(source: random.Random) -> tuple[bytes, tuple[int, int] | None, bool]:
    """Return some attributes; the first whole cgroup id and its end; whether one is not whole."""
    data, named, spoilt = b"", None, False
    for _ in range(source.randrange(4)):
        if source.randrange(2):
            size = source.randrange(9)
            data += struct.pack("=HH", 4 + size, source.choice((5, 16, 22)))
            data += source.randbytes(size) + bytes(-size % 4)
            continue
        number = source.getrandbits(64)
        length = source.choice((CGROUP_BYTES,) * 6 + (0, 4, 8, 11, 13, 16, 65535))
        data += struct.pack("=HHQ", length, CGROUP_ID, number)
        if length != CGROUP_BYTES:
            return data, named, named is None
        named = named or (number, len(data))
    return data, named, spoilt


def check_refusal(source: random.Random) -> None:
    """Check that the kernel's own error is told as it is, and no such socket is nobody."""
    number = source.choice((errno.ENOENT, errno.EPERM, errno.EINVAL, source.getrandbits(31)))
    reply = struct.pack("=IHHIIi", 36, ERROR, 0, 1, 0, -number) + source.randbytes(16)
    found, error = ask(reply)
    assert found is None
    told = None if error is None else (error.reason, error.errno)
    assert told == (None if number == errno.ENOENT else ("kernel.sock_diag", number))


def check_bytes(data: bytes, source: random.Random) -> None:
    """Check each of the other parsers."""
    count = source.choice((0, 1, 2, 3, 100, (1 << 32) - 1))
    with contextlib.suppress(CcinitError):
        check_targets(parse_reply(data))
    with contextlib.suppress(CcinitError):
        check_targets(DmReply(dev=0, target_count=count, payload=data))
    with contextlib.suppress(CcinitError):
        record = parse_record(data, source.choice((0, 339, 1 << 64)))
        assert 0 <= record.priority <= 7
        assert record.dropped >= 0
        assert record.text in data
    response = data[:RESPONSE_BYTES].ljust(RESPONSE_BYTES, b"\0")
    with contextlib.suppress(CcinitError):
        assert len(parse_response(response)) == int.from_bytes(response[4:8], "little")


def check_targets(reply: DmReply) -> None:
    targets = parse_targets(reply)
    assert len(targets) == reply.target_count
    assert len(targets) * DM_TARGET.size <= len(reply.payload)


def main(seconds: float, seed: int) -> int:
    """Check answers for a while; return how many."""
    trials = Trials(seconds, seed)
    named = 0
    for data in SEEDS:
        check_bytes(data, trials.source)
    for source in trials:
        named += check_socket(source)
        check_refusal(source)
        check_bytes(mutate_text(source, source.choice(SEEDS), NOISE), source)
    trials.require(named, one_in=60)
    return trials.count


if __name__ == "__main__":
    run(main)
