"""Invariant: whatever a container writes to its guest's API is one call, or a refusal with an HTTP
status, or not whole yet; and it does not matter in which pieces the bytes come.

Run as `python -m tests.fuzz.fuzz_workload_api [SECONDS [SEED]]`.
"""

import random

from ccinit.formats.planes.http_request import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    HttpRequestError,
    HttpRequestReader,
)
from ccinit.formats.planes.workload_api import WorkloadCall, parse_call
from tests.fuzz.trials import Trials, run

STATUSES = frozenset((400, 404, 405, 411, 413, 431))
BODY = b'{"domain":"d","operation":"o","content":"c"}'
SEEDS = (
    b"GET /cdh/resource/ccinit/demo/file-token HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /aa/token?token_type=kbs HTTP/1.1\r\nhost: [::1]:8006\r\n\r\n",
    b"GET /aa/evidence?runtime_data=eHl6&encoding=base64 HTTP/1.0\r\nAccept: */*\r\n\r\n",
    b"POST /aa/aael HTTP/1.1\r\nHost:\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
PIECES = (
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b"?",
    b"%",
    b"%00",
    b"&a=b",
    b"..",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X: " + b"y" * 4096 + b"\r\n",
)


def read(pieces: list[bytes]) -> tuple[int, WorkloadCall | None]:
    """Return the status of a refusal, or 0; and the call, if there is one."""
    reader = HttpRequestReader()
    try:
        for piece in pieces:
            request = reader.feed(piece)
            if request is not None:
                assert len(request.body) <= MAX_BODY_BYTES
                return 0, parse_call(request)
    except HttpRequestError as error:
        assert error.status in STATUSES, error.status  # noqa: PT017
        return error.status, None
    assert sum(map(len, pieces)) <= MAX_HEAD_BYTES + MAX_BODY_BYTES + 4
    return 0, None


def mutate(source: random.Random) -> bytes:
    """Change, cut, double or put in bytes."""
    data = bytearray(source.choice(SEEDS))
    for _ in range(source.randrange(4)):
        spot = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                del data[spot : spot + source.randrange(1, 12)]
            case 1:
                data[spot:spot] = source.choice(PIECES)
            case 2:
                data[spot : spot + 1] = source.randbytes(1)
            case _:
                data[spot:spot] = data[: source.randrange(len(data) + 1)]
    return bytes(data)


def cut(source: random.Random, data: bytes) -> list[bytes]:
    """Return `data` in pieces."""
    places = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(6)))
    ends = [*places, len(data)]
    return [data[begin:end] for begin, end in zip([0, *places], ends, strict=True)]


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for good in SEEDS:
        status, call = read([good])
        assert (status, call is None) == (0, False)
    for source in trials:
        data = mutate(source)
        assert read([data]) == read(cut(source, data))
    return trials.count


if __name__ == "__main__":
    run(main)
