"""Invariant: of real streams that were cut and put together anew, what is read is what the guest of
the header wrote, in its order and without a hole, and the first thing wrong has its own reason.

Run as `python -m tests.fuzz.fuzz_spliced_logs [SECONDS [SEED]]`.
"""

import random
from dataclasses import dataclass

from ccinit.errors import VerificationError
from ccinit.formats.sealed_log import (
    HEAD_BYTES,
    HEADER_BYTES,
    BootId,
    Kind,
    Record,
    SizeClass,
    report_data,
)
from ccinit.seal.stream import open_stream
from ccinit.secret import Secret
from guest_owner.sealed_log.key import LogKey
from tests.fakes.documents.unsealed_log import Unsealed, unseal
from tests.fuzz.trials import Trials, run

OWNER = LogKey(bytes(range(32)))
PSK, OTHER_PSK = b"p" * 32, b"q" * 32
BOOT_IDS = (b"a" * 16, b"b" * 16, b"a" * 16)  # that two are equal must not help anybody
TEXT = {Kind.EVENT, Kind.STDOUT, Kind.STDERR, Kind.KERNEL}


@dataclass(frozen=True, slots=True)
class Sealed:
    """A record as some guest sealed it, and what it completes.

    Attributes:
        boot: which guest's.
        entry: index of the first record, kind and data of the entry that ends here.
    """

    boot: int
    index: int
    kind: Kind
    wire: bytes
    entry: tuple[int, Kind, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Boot:
    """All that one guest wrote."""

    boot_id: bytes
    header: bytes
    records: tuple[Sealed, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """How a stream has to be read: its good records, and the reasons, none if it is whole."""

    good: tuple[Sealed, ...]
    reasons: tuple[str, ...]


class Guest:
    """Writes a stream of its own length, with and without what is optional in one."""

    def __init__(self, source: random.Random, boot: int) -> None:
        self._source = source
        self._boot = boot
        self._stream = open_stream(OWNER.public_bytes, BootId(BOOT_IDS[boot]))
        self._records: list[Sealed] = []

    def live(self) -> Boot:
        """Write everything, the end included."""
        stream, source = self._stream, self._source
        first = stream.public_key + report_data(stream.boot_id, stream.public_key)
        self._add(
            Kind.EVIDENCE,
            stream.evidence_records(first[len(stream.public_key) :], boottime_us=1, dropped=0),
            first,
        )
        self._write_some()
        if source.random() < 0.7:
            self._add(Kind.MIX, stream.mix_record(Secret(PSK), boottime_us=1, dropped=0), b"")
        for _ in range(source.randrange(4)):
            self._write_some()
            self._add(Kind.SIGNATURE, stream.signature_record(boottime_us=1, dropped=0))
        self._write_some()
        end = stream.end_records(boottime_us=1, dropped=0)
        small = SizeClass.SMALL.wire_bytes
        self._add(Kind.END, end[:small], b"")
        self._add(Kind.SIGNATURE, end[small:])
        return Boot(stream.boot_id, stream.header, tuple(self._records))

    def _write_some(self) -> None:
        for _ in range(self._source.randrange(5)):
            data = self._source.randbytes(self._source.choice((0, 40, 300)))
            size = self._source.choice((SizeClass.SMALL, SizeClass.SMALL, SizeClass.MEDIUM))
            if self._source.randrange(4) == 0:
                self._add(Kind.FILL, self._seal(Kind.FILL, b"", size))
                continue
            kind, start = self._source.choice(tuple(TEXT)), len(self._records) + 1
            if is_long := self._source.randrange(3) == 0:
                self._add(kind, self._seal(kind, data, size, more=True))
            rest = data if is_long else b""
            self._add(kind, self._seal(kind, data, size), rest + data, start)

    def _seal(self, kind: Kind, data: bytes, size: SizeClass, *, more: bool = False) -> bytes:
        record = Record(boottime_us=1, kind=kind, source="web", dropped=0, data=data, more=more)
        return self._stream.record(record, size)

    def _add(
        self, kind: Kind, wire: bytes, data: bytes | None = None, start: int | None = None
    ) -> None:
        index = len(self._records) + 1
        entry = None if data is None else (start or index, kind, data)
        self._records.append(Sealed(self._boot, index, kind, wire, entry))


class Host:
    """Puts a stream together from what it has collected of several boots."""

    def __init__(self, source: random.Random, boots: tuple[Boot, ...]) -> None:
        self.source = source
        self.boots = boots
        self.first = source.choice(boots)
        self.header = self.first.header
        self.records = list(self.first.records)
        self.tail = b""

    def splice(self) -> None:
        """Change something that needs no key."""
        source, records = self.source, self.records
        start, end = self._some_of(records)
        other = source.choice(self.boots).records
        match source.randrange(8):
            case 0:
                first, last = self._some_of(other)
                records[start:start] = other[first:last]
            case 1:
                records[start:end] = other[start:end]
            case 2:
                del records[start:end]
            case 3:
                records[end:end] = records[start:end]
            case 4:
                further = min(len(records), end + source.randrange(1, 6))
                records[start:further] = records[end:further] + records[start:end]
            case 5:
                records[start:] = other[start:]
            case 6:
                self._cut(start)
            case _:
                self._change_header()

    def _some_of(self, records: list[Sealed] | tuple[Sealed, ...]) -> tuple[int, int]:
        start = self.source.randrange(len(records) + 1)
        return start, min(len(records), start + self.source.choice((1, 1, 3, len(records))))

    def _cut(self, start: int) -> None:
        if start < len(self.records):
            wire = self.records[start].wire
            self.tail = wire[: self.source.choice((0, 1, HEAD_BYTES, self._below(len(wire))))]
            del self.records[start:]

    def _change_header(self) -> None:
        other = self.source.choice(self.boots).header
        cut = self.source.choice((HEADER_BYTES, 8, 24, self._below(HEADER_BYTES)))
        self.header = other[:cut] + self.header[cut:]

    def _below(self, count: int) -> int:
        return self.source.randrange(count)

    def stream(self) -> bytes:
        return b"".join((self.header, *(record.wire for record in self.records), self.tail))

    def expect(self, psk: bytes | None) -> Expected:
        """Return how that has to be read, from where each record comes."""
        for boot in self.boots:
            if boot.header == self.header:
                return self._expect_of(boot, psk)
        return Expected((), ("unseal.key",))

    def _expect_of(self, boot: Boot, psk: bytes | None) -> Expected:
        good: list[Sealed] = []
        is_mixed = False
        for place, record in enumerate(self.records, 1):
            if has_ended(good):
                return Expected(tuple(good), ("unseal.trailing",))
            if record.index != place:
                return Expected(tuple(good), (self._misplaced(record.index, place),))
            if is_mixed and psk is None:
                return Expected(tuple(good), ("unseal.psk",))
            if record != boot.records[place - 1 : place][0] or (is_mixed and psk != PSK):
                return Expected(tuple(good), ("unseal.forged",))
            good.append(record)
            is_mixed = is_mixed or record.kind is Kind.MIX
        return Expected(tuple(good), self._judge_tail(good))

    def _judge_tail(self, good: list[Sealed]) -> tuple[str, ...]:
        if self.tail:
            if has_ended(good):
                return ("unseal.trailing",)
            claimed = self._claimed_by_tail()
            place = len(good) + 1
            if claimed is not None and claimed != place:
                return (self._misplaced(claimed, place),)
            return ("unseal.truncated",)
        signed = bool(good) and good[-1].kind is Kind.SIGNATURE
        return (("unseal.unsigned",) if good and not signed else ()) + (
            () if has_ended(good) else ("unseal.end",)
        )

    def _misplaced(self, found: int, place: int) -> str:
        if found < place:
            return "unseal.replayed"
        behind = {record.index for record in self.records[place - 1 :]}
        if (claimed := self._claimed_by_tail()) is not None:
            behind.add(claimed)
        return "unseal.reordered" if place in behind else "unseal.missing"

    def _claimed_by_tail(self) -> int | None:
        return int.from_bytes(self.tail[1:HEAD_BYTES]) if len(self.tail) >= HEAD_BYTES else None


def has_ended(good: list[Sealed]) -> bool:
    """Whether these are all of a boot: its END, and the signature behind it."""
    return len(good) > 1 and good[-2].kind is Kind.END


def vouch(evidence: bytes, boot_id: BootId, signing_key: bytes) -> str:
    """Judge evidence that is nothing but what it has to report."""
    if evidence != report_data(boot_id, signing_key):
        raise VerificationError("evidence.report_data", "of something else")
    return boot_id.hex()


def check(host: Host, psk: bytes | None) -> bool:
    """Check one stream; return whether something was read of one that is not whole."""
    stream, expected = host.stream(), host.expect(psk)
    result = unseal(stream, OWNER, psk=psk, verify_evidence=vouch)
    assert tuple(finding.reason for finding in result.findings) == expected.reasons
    good = expected.good
    assert result.records == len(good)
    found = [(entry.index, entry.kind, entry.data) for entry in result.entries]
    assert found == [record.entry for record in good if record.entry is not None]
    signatures = [record.index for record in good if record.kind is Kind.SIGNATURE]
    assert result.signed == max(signatures, default=0)
    whole = [b"".join((b.header, *(r.wire for r in b.records))) for b in host.boots]
    assert bool(result.findings) == (stream not in whole or psk_is_missing(host, psk))
    check_writer(result, host)
    return bool(good and expected.reasons)


def check_writer(result: Unsealed, host: Host) -> None:
    """Check who is said to have written: the guest of the header, once its evidence was read."""
    if result.boot_id is not None:
        assert result.boot_id in {boot.boot_id for boot in host.boots if boot.header == host.header}
    assert result.bound is (True if result.records else None)
    assert result.guest == (result.boot_id.hex() if result.boot_id and result.records else "")


def psk_is_missing(host: Host, psk: bytes | None) -> bool:
    """Return whether another shared key than the guest's leaves a whole stream unread."""
    return psk != PSK and any(record.kind is Kind.MIX for record in host.records)


def main(seconds: float, seed: int) -> int:
    """Check streams for a while; return how many."""
    trials = Trials(seconds, seed)
    boots = make_boots(trials.source)
    taken = 0
    for boot in range(len(boots)):
        host = Host(trials.source, boots[boot : boot + 1])
        assert not check(host, PSK)
    for source in trials:
        if source.randrange(200) == 0:
            boots = make_boots(source)
        host = Host(source, boots)
        for _ in range(source.randrange(4)):
            host.splice()
        taken += check(host, source.choice((PSK, PSK, PSK, None, OTHER_PSK)))
    trials.require(taken, one_in=4)
    return trials.count


def make_boots(source: random.Random) -> tuple[Boot, ...]:
    """Let some guests live."""
    return tuple(Guest(source, boot).live() for boot in range(len(BOOT_IDS)))


if __name__ == "__main__":
    run(main)
