"""Invariant: any bytes given to the owner plane's readers become messages, or a `FormatError` or
`PeerError`, and never anything else; a session never holds more for a call than its windows allow.

Run as `python -m tests.fuzz.fuzz_owner_wire [SECONDS [SEED]]`.
"""

import random

from ccinit.errors import FormatError, PeerError
from ccinit.formats.planes.owner_rpc import WINDOW_BYTES
from ccinit.formats.planes.owner_wire import (
    Credit,
    Data,
    LogLine,
    LogLineReader,
    MessageReader,
    encode_credit,
    encode_data,
    encode_log_line,
    encode_request,
)
from ccinit.formats.sealed_log import Kind
from ccinit.owner.session import Call, Session
from tests.fuzz.trials import Trials, run

MESSAGES = (
    encode_request(1, "exec", ("web", ("/bin/cat",), False, 24, 80)),
    encode_request(2, "logs", ("", 0, True)),
    encode_request(3, "copy", ("web", "/etc/hostname", True, 0o644)),
    encode_data(Data(id=1, fd=0, content=b"input")),
    encode_data(Data(id=1, fd=4, content=b"\0\x18\0\x50")),
    encode_data(Data(id=3, fd=0, content=bytes(5000))),
    encode_credit(Credit(id=2, count=100)),
    encode_log_line(LogLine(sequence=1, boottime_us=2, kind=Kind.STDOUT, source="a", data=b"b")),
)


def check(data: bytes, source: random.Random) -> None:
    """Feed `data` in pieces to every reader, and to a session that answers nothing."""
    session = Session()
    held: dict[int, int] = {}
    readers = (
        MessageReader(of_guest=True).feed,
        MessageReader(of_guest=False).feed,
        LogLineReader().feed,
        session.feed,
    )
    for feed in readers:
        rest = data
        try:
            while rest:
                size = source.randrange(1, len(rest) + 1)
                for event in feed(rest[:size]):
                    if isinstance(event, Call):
                        held[event.id] = 0
                    elif isinstance(event, Data) and feed == session.feed:
                        held[event.id] += len(event.content)
                rest = rest[size:]
        except (FormatError, PeerError):
            continue
    assert all(count <= WINDOW_BYTES for count in held.values())


def mutate(source: random.Random) -> bytes:
    """Return a few messages with a few changes."""
    data = bytearray(b"".join(source.choices(MESSAGES, k=source.randrange(1, 8))))
    for _ in range(source.randrange(4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(3):
            case 0:
                data[spot:spot] = source.randbytes(source.randrange(1, 6))
            case 1:
                del data[spot : spot + source.randrange(1, 20)]
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for message in MESSAGES:
        check(message, trials.source)
    for source in trials:
        check(mutate(source), source)
    return trials.count


if __name__ == "__main__":
    run(main)
