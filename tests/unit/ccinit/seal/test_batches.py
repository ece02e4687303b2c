"""Batches: the host is shown as many bytes at each time, whatever the pod writes."""

import itertools

import pytest

from ccinit.errors import LimitExceededError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import HEADER_BYTES, BootId, Kind
from ccinit.seal.log import MIN_CAPACITY, SealedLog
from ccinit.secret import Secret
from guest_owner.sealed_log.key import LogKey
from tests.fakes.documents.sealed_log_reference import read_stream
from tests.fakes.documents.unsealed_log import Unsealed, unseal

OWNER_SEED = b"o" * 32
OWNER = LogKey(OWNER_SEED)
PSK = b"p" * 32
BATCH = 8192


def batching_log() -> SealedLog:
    ticks = itertools.count(1)
    log = SealedLog(clock=lambda: next(ticks))
    log.arrange(capacity=MIN_CAPACITY, batch_bytes=BATCH)
    log.open(OWNER.public_bytes, BootId(b"b" * 16))
    log.bind(b"evidence")
    log.mix(Secret(PSK))
    return log


def shown(log: SealedLog) -> int:
    """How many bytes behind the header a collector could have."""
    return log.ring.released - HEADER_BYTES


def whole(log: SealedLog) -> bytes:
    return log.ring.read(0, 1 << 22).data


def read(stream: bytes) -> Unsealed:
    return unseal(stream, OWNER, psk=PSK, verify_evidence=lambda *_: "tests")


def test_batches_are_equal_whether_the_pod_writes_or_not() -> None:
    log = batching_log()
    assert shown(log) == 0
    sizes = []
    for written in (b"", b"x" * 700, b"y" * 30_000, b"", b"", b"", b"", b"z"):
        if written:
            assert log.append(Kind.STDOUT, "web", written)
        before = shown(log)
        log.release_batch()
        sizes.append(shown(log) - before)
    assert sizes == [BATCH] * len(sizes)


def test_padding_takes_few_records_and_only_where_something_is_missing() -> None:
    log = batching_log()
    log.release_batch()
    before = read(whole(log)).records
    log.release_batch()
    assert read(whole(log)).records - before == 1 + 1 + 7  # signed; 4096 bytes and 7 times 512
    while log.ring.end - log.ring.released < 2 * BATCH:
        assert log.append(Kind.STDOUT, "web", b"x")
    written = log.ring.end
    log.release_batch()
    log.release_batch()
    assert log.ring.end == written


def test_every_filled_batch_is_signed() -> None:
    log = batching_log()
    for _ in range(3):
        log.release_batch()
        result = read(whole(log))
        fills_behind = BATCH // 512
        assert result.records - result.signed < fills_behind
    assert {finding.reason for finding in result.findings} == {"unseal.end", "unseal.unsigned"}
    assert [entry.kind for entry in result.entries] == [Kind.EVIDENCE, Kind.MIX]


@pytest.mark.parametrize("written", [0, 1, 100, 63, 64, 200])
def test_end_comes_in_whole_batches_and_reads_well(written: int) -> None:
    log = batching_log()
    log.release_batch()
    for number in range(written):
        assert log.append(Kind.STDOUT, "web", str(number).encode())
    log.close(b"the reason")
    assert log.ring.read(0, 1 << 22).last
    assert (len(whole(log)) - HEADER_BYTES) % BATCH == 0
    result = read(whole(log))
    assert result.findings == ()
    assert result.ended
    lines = [entry.data for entry in result.entries if entry.kind is Kind.STDOUT]
    assert lines == [str(number).encode() for number in range(written)]
    entries, records = read_stream(whole(log), OWNER_SEED, PSK)
    assert (len(entries), records) == (len(result.entries), result.records)


def test_guest_without_its_evidence_yet_shows_the_header_only() -> None:
    log = SealedLog()
    log.arrange(capacity=MIN_CAPACITY, batch_bytes=BATCH)
    log.open(OWNER.public_bytes, BootId(b"b" * 16))
    log.public_event(Phase.NET, Code.OK)
    log.release_batch()
    assert log.ring.released == HEADER_BYTES
    log.bind(b"evidence")
    log.release_batch()
    assert log.ring.released == HEADER_BYTES + BATCH
    log.close()
    assert (len(whole(log)) - HEADER_BYTES) % BATCH == 0


def test_host_that_does_not_collect_is_shown_nothing_more_whatever_the_pod_does() -> None:
    logs = batching_log(), batching_log()
    for number in range(1000):
        assert logs[0].append(Kind.STDOUT, "web", b"x" * 100)
        for log in logs:
            log.release_batch()
        assert shown(logs[0]) == shown(logs[1]) <= MIN_CAPACITY // 4 + BATCH, number
    for log in logs:
        log.ring.collect(log.ring.released, 1)
        before = shown(log)
        log.release_batch()
        assert shown(log) == before + BATCH


def test_fillers_leave_the_room_of_entries() -> None:
    log = batching_log()
    for _ in range(1000):  # nobody collects
        log.release_batch()
    assert log.append(Kind.STDOUT, "web", b"still told")
    log.close(b"the reason")
    result = read(whole(log))
    assert result.ended
    assert [entry.kind for entry in result.entries[-3:]] == [Kind.STDOUT, Kind.REPORT, Kind.END]


def test_sizes_are_arranged_before_the_stream_begins_and_within_limits() -> None:
    log = SealedLog()
    for capacity, batch in ((MIN_CAPACITY - 1, 0), (MIN_CAPACITY, 513)):
        with pytest.raises(LimitExceededError) as error:
            log.arrange(capacity=capacity, batch_bytes=batch)
        assert error.value.reason == "seal.capacity"
    log.arrange(capacity=2 * MIN_CAPACITY)
    assert log.ring.capacity == 2 * MIN_CAPACITY
    log.open(OWNER.public_bytes, BootId(b"b" * 16))
    with pytest.raises(RuntimeError):
        log.arrange(capacity=MIN_CAPACITY)


def test_last_batch_has_room_though_the_pod_wrote_until_nothing_was_taken() -> None:
    log = batching_log()
    while log.append(Kind.STDOUT, "web", b"x" * 5000):
        pass
    while log.append(Kind.EVENT, "ccinit", b"y" * 300):
        pass
    log.close(b"z" * 100_000)
    assert (len(whole(log)) - HEADER_BYTES) % BATCH == 0
    assert read(whole(log)).ended
