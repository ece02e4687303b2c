"""Streams of a guest as lists of records, and what their owner finds in them."""

from ccinit.formats.sealed_log import BootId, Kind, Record, SizeClass
from ccinit.seal.stream import open_stream
from ccinit.secret import Secret
from guest_owner.sealed_log.key import LogKey
from guest_owner.sealed_log.unseal import Finding
from tests.fakes.documents.unsealed_log import Unsealed, unseal

OWNER = LogKey(b"o" * 32)
BOOT_ID = BootId(b"b" * 16)
PSK = b"p" * 32
SMALL = SizeClass.SMALL


class Writer:
    """A stream as a list of records, so that tests can move and lose them."""

    def __init__(self, *, mixed: bool = True, evidence: bytes = b"evidence") -> None:
        self.stream = open_stream(OWNER.public_bytes, BOOT_ID)
        self.records = [self.stream.evidence_records(evidence, boottime_us=1, dropped=0)]
        if mixed:
            self.records.append(self.stream.mix_record(Secret(PSK), boottime_us=1, dropped=0))

    def event(self, data: bytes = b"text", kind: Kind = Kind.EVENT, **changes: object) -> None:
        fields = {"boottime_us": 2, "source": "web", "dropped": 0, "data": data, "kind": kind}
        record = Record(**(fields | changes))  # type: ignore[arg-type]
        self.records.append(self.stream._seal(record, SMALL))

    def sign(self) -> None:
        self.records.append(self.stream.signature_record(boottime_us=2, dropped=0))

    def end(self) -> None:
        self.records.append(self.stream.end_records(boottime_us=9, dropped=0))

    def __bytes__(self) -> bytes:
        return self.stream.header + b"".join(self.records)


def good() -> Writer:
    writer = Writer()
    for number in range(4):
        writer.event(b"event %d" % number)
    writer.sign()
    writer.event(b"last")
    writer.end()
    return writer


def read(stream: bytes, *, psk: bytes | None = PSK, key: LogKey = OWNER) -> Unsealed:
    return unseal(stream, key, psk=psk, verify_evidence=lambda *_: "tests")


def only_finding(stream: bytes, **options: object) -> Finding:
    (finding,) = read(stream, **options).findings  # type: ignore[arg-type]
    return finding


def flipped(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 0x01
    return bytes(changed)
