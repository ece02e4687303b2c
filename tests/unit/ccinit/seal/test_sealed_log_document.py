"""What guests write is what `docs/sealed-log.md` says: a reader made from it alone reads it."""

import itertools
import json
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import HEADER_BYTES, BootId, Kind
from ccinit.seal.log import SealedLog
from ccinit.secret import Secret
from guest_owner.sealed_log.key import LogKey
from tests.fakes.documents.sealed_log_reference import UnreadableError, read_stream

VECTORS = Path("tests/vectors/sealed_log")
STREAM = (VECTORS / "stream.bin").read_bytes()
DESCRIPTION = json.loads((VECTORS / "stream.json").read_text(encoding="ascii"))
OWNER = bytes.fromhex(DESCRIPTION["owner_seed"])
PSK = bytes.fromhex(DESCRIPTION["shared_key"])


def read(stream: bytes) -> tuple[list[dict[str, object]], int]:
    entries, records = read_stream(stream, OWNER, PSK)
    return [
        {"index": one.index, "kind": one.kind, "source": one.source, "bytes": len(one.data)}
        for one in entries
    ], records


def test_document_is_enough_to_read_the_vectors() -> None:
    assert read(STREAM) == (DESCRIPTION["entries"], DESCRIPTION["records"])


def test_document_is_enough_to_read_a_log_with_every_kind_of_entry() -> None:
    ticks = itertools.count(1)
    log = SealedLog(clock=lambda: next(ticks))
    log.open(LogKey(OWNER).public_bytes, BootId(b"b" * 16))
    log.bind(b"e" * 70_000)
    log.public_event(Phase.ATTEST, Code.OK)
    log.mix(Secret(b"p" * 32))
    written = [
        (Kind.EVENT, "ccinit", "grüße".encode()),
        (Kind.STDOUT, "web", b"x" * 200_000),
        (Kind.STDERR, "web", b""),
        (Kind.KERNEL, "kernel", b"<6>[1] hello"),
        (Kind.RUNTIME, "crun", bytes(range(256)) * 20),
        *((Kind.STDOUT, "web", str(number).encode()) for number in range(200)),
    ]
    for kind, source, data in written:
        assert log.append(kind, source, data)
    log.close(b"the reason")
    entries, records = read_stream(log.ring.read(0, 1 << 22).data, OWNER, b"p" * 32)
    assert [(one.kind, one.source, one.data) for one in entries[3:-2]] == written
    assert [one.kind for one in entries[:3]] == [Kind.EVIDENCE, Kind.CODE, Kind.MIX]
    assert [one.kind for one in entries[-2:]] == [Kind.REPORT, Kind.END]
    assert records > len(entries)


# The vectors' records: 1, 2, 3 and 4 are small; 5 small, 6 medium, 7 and 8 small, 9 large.
SMALL = 512
FIRST = HEADER_BYTES
THIRD = FIRST + 2 * SMALL


@pytest.mark.parametrize(
    ("changed", "step", "index"),
    [
        pytest.param(b"X" + STREAM[1:], 1, 0, id="magic"),
        pytest.param(STREAM[:30] + bytes((STREAM[30] ^ 1,)) + STREAM[31:], 1, 0, id="seed"),
        pytest.param(STREAM[:FIRST] + STREAM[FIRST + SMALL :], 2, 1, id="hole"),
        pytest.param(STREAM[:FIRST] + b"\x04" + STREAM[FIRST + 1 :], 2, 1, id="class"),
        pytest.param(STREAM[:THIRD] + STREAM[FIRST : FIRST + SMALL], 2, 3, id="replay"),
        pytest.param(
            STREAM[: THIRD + 20] + bytes((STREAM[THIRD + 20] ^ 1,)) + STREAM[THIRD + 21 :],
            3,
            3,
            id="flipped",
        ),
        pytest.param(STREAM[:-SMALL], 7, 10, id="cut"),
        pytest.param(STREAM + STREAM[-SMALL:], 7, 12, id="trailing"),
    ],
)
def test_document_tells_a_changed_stream_by_step_and_record(
    changed: bytes, step: int, index: int
) -> None:
    with pytest.raises(UnreadableError) as error:
        read(changed)
    assert (error.value.step, error.value.index) == (step, index)


def test_document_says_that_the_shared_key_is_needed() -> None:
    with pytest.raises(UnreadableError) as error:
        read_stream(STREAM, OWNER, b"another")
    assert (error.value.step, error.value.index) == (3, 5)
