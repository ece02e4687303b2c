"""The owner's verdict on a stream: one refusal per step, each for the right reason (R92)."""

import io

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ccinit.formats.sealed_log import HEADER_BYTES, Kind, Record, SizeClass
from ccinit.seal.stream import SealedStream
from guest_owner.commands.unseal import EXIT_BAD, EXIT_OPEN, exit_code
from guest_owner.sealed_log.key import LogKey
from guest_owner.sealed_log.unseal import Unsealing
from tests.faults.plugin import FaultSeen
from tests.unit.guest_owner.sealed_log.sealed_streams import (
    BOOT_ID,
    OWNER,
    PSK,
    Writer,
    flipped,
    good,
    only_finding,
    read,
)


def test_unseal_good_stream_has_no_findings() -> None:
    result = read(bytes(good()))
    assert result.findings == ()
    assert result.boot_id == BOOT_ID
    assert (result.records, result.signed) == (10, 10)
    assert (result.bound, result.guest, result.mixed, result.ended) == (True, "tests", True, True)
    texts = [entry.data for entry in result.entries if entry.kind is Kind.EVENT]
    assert texts == [b"event 0", b"event 1", b"event 2", b"event 3", b"last"]


def test_unseal_gives_each_entry_with_the_signature_that_covers_it() -> None:
    writer = Writer()
    for number in range(500):
        writer.event(b"event %d" % number)
        if number % 10 == 9:
            writer.sign()
    writer.end()
    stream = io.BytesIO(bytes(writer))
    reading = Unsealing(stream, OWNER, psk=PSK)
    for entry in reading.entries():
        ahead = (stream.tell() - HEADER_BYTES) // SizeClass.SMALL.wire_bytes - entry.index
        assert entry.is_signed
        assert ahead <= 13  # ten events; before the first, evidence and mix; the signature
    assert reading.verdict().findings == ()
    assert reading.verdict().ended


def test_unseal_calls_an_entry_signed_once_all_of_it_is() -> None:
    writer = Writer()
    writer.event(b"whole")
    writer.event(b"one ", more=True)
    writer.sign()
    writer.event(b"two")
    whole, cut = read(bytes(writer)).entries[2:]
    assert (whole.data, whole.is_signed) == (b"whole", True)
    assert (cut.data, cut.is_signed) == (b"one two", False)
    writer.sign()
    assert all(entry.is_signed for entry in read(bytes(writer)).entries)


# Step 1


@pytest.mark.parametrize("length", [0, 5, HEADER_BYTES - 1])
def test_unseal_without_a_whole_header_is_refused(length: int) -> None:
    finding = only_finding(bytes(good())[:length])
    assert (finding.reason, finding.index) == ("unseal.header", 0)


def test_unseal_with_another_key_is_refused() -> None:
    finding = only_finding(bytes(good()), key=LogKey(b"x" * 32))
    assert (finding.reason, finding.index) == ("unseal.key", 0)


@pytest.mark.parametrize("offset", [8, 23, 24, 1143, 1144, HEADER_BYTES - 1])
def test_unseal_with_a_changed_header_is_refused(offset: int) -> None:
    finding = only_finding(flipped(bytes(good()), offset))
    assert finding.reason == "unseal.key"


# Step 2


@pytest.mark.parametrize("cut", [1, 8, 9, 100, 511])
def test_r92_unseal_cut_inside_a_record_names_it(cut: int, fault_seen: FaultSeen) -> None:
    writer = good()
    whole = len(writer.stream.header) + sum(len(record) for record in writer.records[:4])
    stream = bytes(writer)[: whole + cut]
    finding = only_finding(stream)
    assert (finding.reason, finding.index) == ("unseal.truncated", 5)
    assert exit_code(read(stream)) == EXIT_OPEN, "the host may be about to write the rest"
    fault_seen.owner(f"{finding.reason} at record {finding.index}")


def test_unseal_cut_between_records_says_that_the_end_is_missing() -> None:
    writer = good()
    writer.records.pop()
    result = read(bytes(writer))
    assert [finding.reason for finding in result.findings] == ["unseal.unsigned", "unseal.end"]
    assert (result.records, result.signed, result.ended) == (8, 7, False)


def test_unseal_cut_after_a_signature_says_that_the_end_is_missing() -> None:
    writer = good()
    del writer.records[7:]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.end", 7)


def test_unseal_with_a_record_lost_names_the_gap() -> None:
    writer = good()
    del writer.records[3:5]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.missing", 4)
    assert finding.detail == "records 4 to 5 are missing"


def test_r92_unseal_with_records_exchanged_names_the_first(fault_seen: FaultSeen) -> None:
    writer = good()
    writer.records[3], writer.records[4] = writer.records[4], writer.records[3]
    result = read(bytes(writer))
    (finding,) = result.findings
    assert (finding.reason, finding.index) == ("unseal.reordered", 4)
    assert result.records == 3
    fault_seen.owner(f"{finding.reason} at record {finding.index}")


def test_r92_unseal_with_a_record_twice_names_the_second(fault_seen: FaultSeen) -> None:
    writer = good()
    writer.records.insert(4, writer.records[3])
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.replayed", 5)
    fault_seen.owner(f"{finding.reason} at record {finding.index}")


@pytest.mark.parametrize("code", [0, 4, 255])
def test_unseal_with_an_unknown_class_is_refused(code: int) -> None:
    writer = good()
    writer.records[3] = bytes((code,)) + writer.records[3][1:]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.class", 4)


# Step 3


@pytest.mark.parametrize("offset", [9, 300, 495, 496, 511])
@pytest.mark.parametrize("position", range(9))
def test_r92_unseal_with_a_changed_record_names_it(
    position: int, offset: int, fault_seen: FaultSeen
) -> None:
    writer = good()
    writer.records[position] = flipped(writer.records[position], offset)
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.forged", position + 1)
    fault_seen.owner(f"{finding.reason} at record {finding.index}")


def test_r92_unseal_with_a_record_of_another_stream_names_it(fault_seen: FaultSeen) -> None:
    writer, other = good(), good()
    writer.records[4] = other.records[4]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.forged", 5)
    fault_seen.owner(f"{finding.reason} at record {finding.index}")


def test_unseal_with_records_renumbered_over_a_gap_is_refused() -> None:
    writer = good()
    del writer.records[3]
    moved = writer.records[3]
    writer.records[3] = moved[:1] + (4).to_bytes(8, "big") + moved[9:]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.forged", 4)


def test_unseal_without_the_shared_key_stops_after_the_mark() -> None:
    result = read(bytes(good()), psk=None)
    (finding,) = result.findings
    assert (finding.reason, finding.index) == ("unseal.psk", 3)
    assert (result.records, result.mixed) == (2, True)


def test_unseal_with_another_shared_key_says_so() -> None:
    finding = only_finding(bytes(good()), psk=b"another")
    assert (finding.reason, finding.index) == ("unseal.forged", 3)
    assert "another shared key" in finding.detail


def test_unseal_not_mixed_needs_no_shared_key() -> None:
    writer = Writer(mixed=False)
    writer.end()
    result = read(bytes(writer), psk=None)
    assert (result.findings, result.mixed) == ((), False)


# Step 4: what only a guest that breaks the format can write


def test_unseal_with_a_malformed_plaintext_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    monkeypatch.setattr("ccinit.seal.stream.encode_plaintext", lambda *_: b"\xc1" * 487)
    writer.event()
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.record", 3)


def test_unseal_with_drops_that_fall_is_refused() -> None:
    writer = Writer()
    writer.event(dropped=2)
    writer.event(dropped=1)
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.dropped", 4)


def test_unseal_joins_a_long_entry_over_a_signature() -> None:
    writer = Writer()
    writer.event(b"one ", more=True)
    writer.sign()
    writer.event(b"two")
    writer.end()
    result = read(bytes(writer))
    assert result.findings == ()
    assert (result.entries[2].data, result.entries[2].index) == (b"one two", 3)


@pytest.mark.parametrize("change", [{"kind": Kind.STDOUT}, {"source": "db"}])
def test_unseal_with_an_unfinished_entry_is_refused(change: dict[str, object]) -> None:
    writer = Writer()
    writer.event(b"one ", more=True)
    writer.event(b"two", **change)  # type: ignore[arg-type]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.order", 4)


def test_unseal_passes_over_fillers_between_entries() -> None:
    writer = Writer()
    writer.event(b"", kind=Kind.FILL, source="")
    writer.event(b"text")
    writer.end()
    result = read(bytes(writer))
    assert result.findings == ()
    assert [entry.kind for entry in result.entries][2:] == [Kind.EVENT, Kind.END]


@pytest.mark.parametrize(("is_inside", "data"), [(True, b""), (False, b"x")])
def test_unseal_with_a_filler_that_is_more_than_that_is_refused(
    is_inside: bool,  # noqa: FBT001
    data: bytes,
) -> None:
    writer = Writer()
    writer.event(b"one ", more=is_inside)
    writer.event(data, kind=Kind.FILL, source="")
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.order", 4)


def test_unseal_with_an_endless_entry_is_refused() -> None:
    writer = Writer()
    record = Record(
        boottime_us=1, kind=Kind.EVENT, source="", dropped=0, data=bytes(65_000), more=True
    )
    writer.records += [writer.stream._seal(record, SizeClass.LARGE) for _ in range(17)]
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.order", 19)


# Step 7


def forger(writer: Writer) -> SealedStream:
    """Exchange the signing key in the guest's state, as one who has only the seed would have to."""
    writer.stream._signing_key = Ed25519PrivateKey.from_private_bytes(b"f" * 32)
    return writer.stream


def test_unseal_with_a_signature_by_another_key_is_refused() -> None:
    writer = Writer()
    writer.event()
    forger(writer)
    writer.sign()
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.signature", 4)


@pytest.mark.parametrize("data", [b"", bytes(63), bytes(64), bytes(65)])
def test_unseal_with_a_malformed_signature_is_refused(data: bytes) -> None:
    writer = Writer()
    writer.event(data, kind=Kind.SIGNATURE)
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.signature", 3)


def test_unseal_with_a_late_signature_is_refused() -> None:
    writer = Writer()
    for _ in range(61):
        writer.event()
    assert [finding.reason for finding in read(bytes(writer)).findings] == [
        "unseal.unsigned",
        "unseal.end",
    ]
    assert exit_code(read(bytes(writer))) == EXIT_OPEN
    writer.event()
    assert exit_code(read(bytes(writer))) == EXIT_BAD
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.late", 64)


# Step 8


def test_unseal_with_a_record_between_end_and_signature_is_refused() -> None:
    writer = Writer()
    writer.event(b"", kind=Kind.END)
    writer.event()
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.trailing", 4)


@pytest.mark.parametrize("tail", [b"\0", b"\x01", bytes(512)])
def test_unseal_with_bytes_after_the_end_is_refused(tail: bytes) -> None:
    finding = only_finding(bytes(good()) + tail)
    assert (finding.reason, finding.index) == ("unseal.trailing", 11)
    assert exit_code(read(bytes(good()) + tail)) == EXIT_BAD


def test_unseal_with_records_after_the_end_is_refused() -> None:
    writer = Writer()
    writer.event(b"", kind=Kind.END)
    writer.sign()
    writer.event()
    finding = only_finding(bytes(writer))
    assert (finding.reason, finding.index) == ("unseal.trailing", 5)
