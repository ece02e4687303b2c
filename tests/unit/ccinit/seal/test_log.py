"""What may be logged when, and what happens when nobody collects (R91, R93)."""

import itertools

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import BootId, Kind, SizeClass
from ccinit.seal.log import MAX_REPORT_BYTES, MIN_CAPACITY, LogState, SealedLog
from ccinit.secret import Secret
from guest_owner.sealed_log.entries import LogEntry
from guest_owner.sealed_log.key import LogKey
from tests.fakes.documents.unsealed_log import Unsealed, unseal

BOOT_ID = BootId(b"b" * 16)
OWNER = LogKey(b"o" * 32)
PSK = b"p" * 32


def make_log(capacity: int = MIN_CAPACITY) -> SealedLog:
    ticks = itertools.count(1)
    log = SealedLog(clock=lambda: next(ticks))
    log.arrange(capacity=capacity)
    return log


def private_log(capacity: int = MIN_CAPACITY) -> SealedLog:
    log = make_log(capacity)
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(b"evidence")
    log.mix(Secret(PSK))
    return log


def drain(log: SealedLog, cursor: int = 0) -> bytes:
    collected = bytearray()
    while log.ring.is_readable(cursor):
        chunk = log.ring.collect(cursor, 65536)
        collected += chunk.data
        cursor = chunk.following
        if chunk.last:
            break
    return bytes(collected)


def read(stream: bytes) -> Unsealed:
    return unseal(stream, OWNER, psk=PSK, verify_evidence=lambda *_: "tests")


def entries(log: SealedLog, *, kinds: frozenset[Kind] | None = None) -> tuple[LogEntry, ...]:
    result = read(drain(log))
    assert {finding.reason for finding in result.findings} <= {"unseal.end", "unseal.unsigned"}
    wanted = kinds or frozenset(Kind) - {Kind.EVIDENCE, Kind.MIX, Kind.END}
    return tuple(entry for entry in result.entries if entry.kind in wanted)


def test_log_before_the_owner_key_counts_and_discards() -> None:
    log = make_log()
    assert not log.append(Kind.EVENT, "ccinit", b"secret text")
    assert not log.public_event(Phase.MOUNT, Code.OK)
    assert log.dropped == 2
    assert log.ring.end == 0
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(b"evidence")
    assert log.public_event(Phase.ATTEST, Code.OK)
    (entry,) = entries(log)
    assert (entry.dropped, entry.data) == (2, bytes((Phase.ATTEST, Code.OK)))


def test_log_before_the_evidence_keeps_public_codes_for_later() -> None:
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    assert log.public_event(Phase.NET, Code.OK)
    log.sign()  # nothing to sign yet
    log.bind(b"evidence")
    result = read(drain(log))
    assert [entry.kind for entry in result.entries] == [Kind.EVIDENCE, Kind.CODE]
    assert result.entries[1].boottime_us < result.entries[0].boottime_us


def test_log_before_the_evidence_keeps_a_bounded_number_of_codes() -> None:
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    for _ in range(64):
        assert log.public_event(Phase.NET, Code.OK)
    assert not log.public_event(Phase.NET, Code.OK)
    assert log.dropped == 1
    log.bind(b"evidence")
    assert len(entries(log, kinds=frozenset({Kind.CODE}))) == 64


def test_log_before_attestation_takes_public_codes_only() -> None:
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(b"evidence")
    for kind in (Kind.EVENT, Kind.KERNEL, Kind.STDOUT):
        assert not log.append(kind, "x", b"secret text")
    assert log.public_event(Phase.ATTEST, Code.REFUSED)
    log.close(b"secret report")
    stream = drain(log)
    result = read(stream)
    assert not result.findings
    assert [entry.kind for entry in result.entries] == [Kind.EVIDENCE, Kind.CODE, Kind.END]
    assert result.entries[-1].dropped == 4
    assert not result.mixed


def test_log_private_takes_everything_and_keeps_bytes_as_they_are() -> None:
    log = private_log()
    payload = b"\0\x1b[2J\xff\xfe\r\n" + bytes(range(256))
    for kind in (Kind.EVENT, Kind.STDOUT, Kind.STDERR, Kind.KERNEL, Kind.RUNTIME):
        assert log.append(kind, "web", payload)
    found = entries(log)
    assert [entry.kind for entry in found] == [2, 3, 4, 5, 9]
    assert {entry.data for entry in found} == {payload}
    assert {entry.source for entry in found} == {"web"}


@pytest.mark.parametrize("length", [0, 1, 459, 460, 5000, 65536, (1 << 20) - 1, 1 << 20, 2_500_000])
def test_r93_log_splits_long_payloads_without_loss(length: int) -> None:
    log = private_log(8 << 20)
    payload = bytes(index % 251 for index in range(length))
    assert log.append(Kind.STDOUT, "web", payload)
    found = entries(log)
    assert b"".join(entry.data for entry in found) == payload
    assert len(found) == max(1, -(-length // (1 << 20)))


def test_r91_log_says_if_only_the_rest_of_a_long_payload_had_room() -> None:
    log = private_log()
    assert not log.append(Kind.STDOUT, "web", bytes(1 << 20) + b"rest")
    assert [entry.data for entry in entries(log)] == [b"rest"]
    assert log.dropped == 1


def test_r91_log_nobody_collects_drops_streams_counts_them_and_keeps_room_for_events() -> None:
    log = private_log()
    while log.append(Kind.STDOUT, "web", bytes(60_000)):
        pass
    for _ in range(9):
        assert not log.append(Kind.STDOUT, "web", bytes(60_000))
    assert log.dropped == 10
    events = 0
    while log.append(Kind.EVENT, "ccinit", b"still here"):
        events += 1
    assert events * SizeClass.SMALL.wire_bytes > 120 << 10  # beside the signatures of 128 KiB
    log.close(bytes(MAX_REPORT_BYTES + 5))
    result = read(drain(log))
    assert not result.findings
    assert result.ended
    assert [entry.kind for entry in result.entries[-2:]] == [Kind.REPORT, Kind.END]
    assert len(result.entries[-2].data) == MAX_REPORT_BYTES
    assert result.entries[-1].dropped == log.dropped == 11


@pytest.mark.parametrize("left", range(60, 70))
def test_r91_streams_are_written_up_to_the_room_for_events_and_the_end_and_not_into_it(
    left: int,
) -> None:
    """A signature that is due before the last record has to fit, too."""
    small = SizeClass.SMALL.wire_bytes
    reserve = (128 << 10) + SizeClass.LARGE.wire_bytes + 16 * small
    log = private_log()
    while log.append(Kind.STDOUT, "web", bytes(60_000)):
        pass
    while log.ring.room > reserve + left * small:
        assert log.append(Kind.STDOUT, "web", b"x")
    log.sign()
    while log.append(Kind.STDOUT, "web", b"x"):
        pass
    assert reserve <= log.ring.room < reserve + 2 * small


@pytest.mark.parametrize("source", ["workload", "owner"])
def test_events_that_others_bring_about_leave_room_for_the_guests_own(source: str) -> None:
    """In what the host has not fetched, and in what the owner plane shows."""
    log = private_log()
    assert log.append(Kind.EVENT, "ccinit", b"before")
    while log.append(Kind.EVENT, source, b"once more"):
        pass
    assert log.append(Kind.EVENT, "ccinit", b"still here")
    assert log.public_event(Phase.STOP, Code.OK)
    for _ in range(9999):
        log.append(Kind.EVENT, source, b"once more")
    own = (b"before", b"still here", bytes((Phase.STOP, Code.OK)))
    assert tuple(one.data for one in log.recent.since(0, 1 << 30) if one.source != source) == own
    found = entries(log, kinds=frozenset({Kind.EVENT, Kind.CODE}))
    assert tuple(entry.data for entry in found if entry.source != source) == own


def test_log_full_with_a_mix_still_ends_whole() -> None:
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(bytes(200_000))
    while log.public_event(Phase.PULL, Code.OK):
        pass
    log.mix(Secret(PSK))
    while log.append(Kind.EVENT, "", b"x"):
        pass
    for _ in range(200):
        log.sign()
    log.close(bytes(MAX_REPORT_BYTES))
    result = read(drain(log))
    assert not result.findings
    assert result.entries[-2].kind is Kind.REPORT


def test_log_collected_again_takes_records_again() -> None:
    log = private_log()
    while log.append(Kind.STDOUT, "web", bytes(60_000)):
        pass
    stream = drain(log)
    log.ring.collect(len(stream), 1)
    assert log.append(Kind.STDOUT, "web", b"after the gap")
    stream += drain(log, len(stream))
    result = read(stream)
    assert result.entries[-1].data == b"after the gap"
    assert result.entries[-1].dropped == 1


def test_log_signs_at_least_every_64_records() -> None:
    log = private_log()
    for _ in range(500):
        assert log.append(Kind.STDOUT, "web", b"x")
    result = read(drain(log))
    assert result.records - result.signed < 64
    log.sign()
    result = read(drain(log))
    assert result.signed == result.records
    assert [finding.reason for finding in result.findings] == ["unseal.end"]


def test_log_before_attestation_is_signed_when_asked() -> None:
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(b"evidence")
    log.public_event(Phase.NET, Code.OK)
    log.sign()
    result = read(drain(log))
    assert result.signed == result.records
    assert [finding.reason for finding in result.findings] == ["unseal.end"]


@pytest.mark.parametrize("count", [61, 62, 63])
def test_log_signs_in_time_for_the_mix_and_the_end(count: int) -> None:
    """When a signature is due, nothing else is next."""
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(b"evidence")
    for _ in range(count):
        assert log.public_event(Phase.PULL, Code.OK)
    log.mix(Secret(PSK))
    for _ in range(count):
        assert log.append(Kind.EVENT, "ccinit", b"text")
    log.close()
    result = read(drain(log))
    assert not result.findings
    assert result.ended


def test_log_closed_in_any_state_is_closed() -> None:
    discarding = make_log()
    discarding.close(b"report")
    assert discarding.ring.read(0, 9).last
    unbound = make_log()
    unbound.open(OWNER.public_bytes, BOOT_ID)
    unbound.public_event(Phase.CONFIG, Code.OK)
    unbound.close()
    result = read(drain(unbound))
    assert [finding.reason for finding in result.findings] == ["unseal.evidence"]
    assert [entry.kind for entry in result.entries] == [Kind.EVIDENCE, Kind.CODE, Kind.END]
    private = private_log()
    private.close()
    private.close()
    assert private.state is LogState.ENDED
    assert not private.append(Kind.EVENT, "", b"late")
    assert not private.public_event(Phase.OFF, Code.OK)
    private.sign()
    result = read(drain(private))
    assert not result.findings
    assert [entry.kind for entry in result.entries] == [Kind.EVIDENCE, Kind.MIX, Kind.END]


def test_log_states_follow_their_order() -> None:
    log = make_log()
    with pytest.raises(RuntimeError):
        log.bind(b"")
    with pytest.raises(RuntimeError):
        log.mix(Secret(PSK))
    log.open(OWNER.public_bytes, BOOT_ID)
    with pytest.raises(RuntimeError):
        log.open(OWNER.public_bytes, BOOT_ID)
    with pytest.raises(RuntimeError):
        log.mix(Secret(PSK))
    with pytest.raises(LimitExceededError) as error:
        log.bind(bytes((256 << 10) + 1))
    assert error.value.reason == "seal.evidence"
    log.bind(b"")
    with pytest.raises(RuntimeError):
        log.bind(b"")
    log.mix(Secret(PSK))
    with pytest.raises(RuntimeError):
        log.mix(Secret(PSK))


@pytest.mark.parametrize("size", [0, 31])
def test_log_takes_no_shared_key_that_could_be_guessed(size: int) -> None:
    log = make_log()
    log.open(OWNER.public_bytes, BOOT_ID)
    log.bind(b"")
    with pytest.raises(FormatError) as error:
        log.mix(Secret(PSK[:size]))
    assert error.value.reason == "seal.psk"
    assert log.state is LogState.PUBLIC
    log.mix(Secret(PSK))
    assert log.append(Kind.EVENT, "ccinit", b"text")


def test_log_with_a_bad_owner_key_stays_discarding() -> None:
    log = make_log()
    with pytest.raises(FormatError) as error:
        log.open(b"short", BOOT_ID)
    assert error.value.reason == "seal.owner_key"
    assert log.state is LogState.DISCARDING
    log.close()
    assert log.ring.end == 0


@pytest.mark.parametrize(
    ("kind", "source"), [(Kind.CODE, ""), (Kind.END, ""), (Kind.EVENT, "s" * 64)]
)
def test_log_refuses_what_only_it_may_write(kind: Kind, source: str) -> None:
    with pytest.raises(RuntimeError):
        private_log().append(kind, source, b"")


def test_log_keeps_recent_entries_for_the_owner_plane() -> None:
    log = private_log()
    log.append(Kind.EVENT, "ccinit", b"one")
    log.public_event(Phase.RUN, Code.OK)
    kept = log.recent.since(0, 1 << 20)
    assert [(entry.sequence, entry.kind) for entry in kept] == [(0, Kind.EVENT), (1, Kind.CODE)]
