"""From a collected stream back to the guest's log, and a verdict on every record of it.

Scope: the owner's side of `ccinit.formats.sealed_log`, where the layout is documented. It is an
implementation of its own, not the sender's code run backwards, so that a mistake shows as a
disagreement. Left to others: fetching the stream (`host_runtime`), judging evidence (a function
that is passed in), printing (`guest_owner.commands.unseal`).

What is checked, in this order:

    1  the header has its form, and its seed opens with the owner's key       header, key
    2  records follow each other without a hole, in order, of a known class   class, truncated,
                                                            missing, reordered, replayed
    3  each opens under its own key, bound to boot, place and predecessor     forged, psk
    4  its plaintext has its form; drops never fall; long entries are whole   record, dropped, order
    5  record 1, and nothing else, is the evidence                            evidence-place
    6  the evidence reports this boot id and signing key                      evidence
    7  every signature is right and none is late                              signature, late
    8  the stream ends with END and a signature, and nothing follows          end, unsigned,
                                                                              trailing

A failure of 1 to 5 or 7 (a wrong or late signature) or bytes after the end stops the reading:
behind that record nothing can be believed. A missing end or signature at the tail, and evidence
that does not verify, are findings about the whole. Reasons are the words above with the prefix
`unseal.`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.sealed_log import (
    HEAD_BYTES,
    HEADER_BYTES,
    MAX_ENTRY_BYTES,
    MIX_LABEL,
    NEXT_LABEL,
    NONCE,
    SEED_BYTES,
    SIGNATURE_BYTES,
    SIGNED_AT_LEAST_EVERY,
    SIGNING_KEY_BYTES,
    TAG_BYTES,
    BootId,
    Kind,
    Record,
    RecordHead,
    Tag,
    associated_data,
    header_tag,
    hpke_info,
    parse_head,
    parse_header,
    parse_plaintext,
    signed_message,
)
from guest_owner.log_key import LogKey

EvidenceVerifier = Callable[[bytes, BootId, bytes], str]
"""Takes evidence, boot id and signing key; returns who is vouched for, or raises `CcinitError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong; `index` is the record it was found at, 0 being the header."""

    reason: str
    index: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry, put together from its records; `index` is the first of them."""

    index: int
    boottime_us: int
    kind: Kind
    source: str
    dropped: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """What a stream holds and how far it can be believed.

    Attributes:
        boot_id: of the header; None if the header is not one.
        entries: everything that was read before the first fatal finding.
        records: how many records opened.
        signed: up to which record a signature covers the stream; 0 is none.
        signed_us: boot time of that signature; the guest lived then.
        bound: whether evidence vouches for the signing key; None is "nobody checked".
        guest: what the verifier of the evidence says about the writer; empty if not bound.
        mixed: whether the owner's shared key protects the rest of the stream.
        ended: whether the guest finished it.
        findings: everything wrong, in the order of records.
    """

    boot_id: BootId | None
    entries: tuple[LogEntry, ...]
    records: int
    signed: int
    signed_us: int
    bound: bool | None
    guest: str
    mixed: bool
    ended: bool
    findings: tuple[Finding, ...]


def unseal(
    stream: bytes,
    key: LogKey,
    *,
    psk: bytes | None = None,
    verify_evidence: EvidenceVerifier | None = None,
) -> Unsealed:
    """Read `stream` as far as it can be believed. Never raises for what the stream holds."""
    reading = _Reading(stream, psk, verify_evidence)
    try:
        reading.open_header(key)
        while not reading.at_end:
            reading.read_record()
    except CcinitError as error:
        reading.report(error)
    else:
        reading.judge_tail()
    return reading.result()


class _EntryParts:
    """Step 4, for entries that are longer than a record: they come whole, and one after another."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._index = 0  # of the first of them

    @property
    def is_open(self) -> bool:
        return bool(self._records)

    def add(self, index: int, record: Record) -> LogEntry | None:
        """Take the record that comes next; return the entry that it completes, if it does."""
        if not self._records:
            self._index = index
        first = self._records[0] if self._records else record
        if (first.kind, first.source) != (record.kind, record.source):
            raise FormatError("unseal.order", "an entry was not finished")
        self._records.append(record)
        if sum(len(part.data) for part in self._records) > MAX_ENTRY_BYTES:
            raise FormatError("unseal.order", "an entry is too long")
        if record.more:
            return None
        data = b"".join(part.data for part in self._records)
        self._records = []
        return LogEntry(
            index=self._index,
            boottime_us=first.boottime_us,
            kind=first.kind,
            source=first.source,
            dropped=record.dropped,
            data=data,
        )


class _Reading:
    """One pass over one stream."""

    def __init__(
        self, stream: bytes, psk: bytes | None, verify_evidence: EvidenceVerifier | None
    ) -> None:
        self._stream = stream
        self._psk = psk
        self._verify_evidence = verify_evidence
        self._offset = 0
        self._index = 0  # of the record being read
        self._boot_id = BootId(b"")
        self._key = b""
        self._tag = Tag(b"")
        self._transcript = hashlib.sha256()
        self._signing_key: Ed25519PublicKey | None = None
        self._records = self._signed = self._signed_us = self._dropped = 0
        self._bound: bool | None = None
        self._guest = ""
        self._mixed = self._ended = False
        self._parts = _EntryParts()
        self._entries: list[LogEntry] = []
        self._findings: list[Finding] = []

    @property
    def at_end(self) -> bool:
        return self._offset == len(self._stream)

    @property
    def _closing(self) -> bool:
        return bool(self._entries) and self._entries[-1].kind is Kind.END

    def report(self, error: CcinitError) -> None:
        self._findings.append(Finding(reason=error.reason, index=self._index, detail=error.detail))

    def result(self) -> Unsealed:
        return Unsealed(
            boot_id=self._boot_id or None,
            entries=tuple(self._entries),
            records=self._records,
            signed=self._signed,
            signed_us=self._signed_us,
            bound=self._bound,
            guest=self._guest,
            mixed=self._mixed,
            ended=self._ended,
            findings=tuple(self._findings),
        )

    def open_header(self, key: LogKey) -> None:
        raw = self._stream[:HEADER_BYTES]
        try:
            header = parse_header(raw)
        except FormatError as error:
            raise FormatError("unseal.header", str(error)) from error
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
        info = hpke_info(header.boot_id)
        try:
            self._key = suite.decrypt(header.sealed_seed, key.private_key, info=info)
        except (InvalidTag, ValueError) as error:
            raise VerificationError(
                "unseal.key", "the header was changed, or was made for another key"
            ) from error
        if len(self._key) != SEED_BYTES:
            raise FormatError("unseal.key", "the seed has another length")
        self._boot_id = header.boot_id
        self._tag = header_tag(raw)
        self._transcript.update(raw)
        self._offset = HEADER_BYTES

    def read_record(self) -> None:
        self._index += 1
        head, wire = self._frame()
        if self._ended:
            raise VerificationError("unseal.trailing", "records after the end")
        record = self._open(head, wire)
        # what a signature covers stops before it, so the state moves on only after this
        self._admit(record)
        self._transcript.update(wire)
        self._tag = Tag(wire[-TAG_BYTES:])
        self._key = _hkdf(self._key, NEXT_LABEL)
        if record.kind is Kind.MIX:
            self._key = _hkdf(self._key + (self._psk or b""), MIX_LABEL)
            self._mixed = True
        self._records = self._index
        self._offset += len(wire)

    def _frame(self) -> tuple[RecordHead, bytes]:
        """Step 2: the bytes of the record that must come now."""
        rest = len(self._stream) - self._offset
        if rest < HEAD_BYTES:
            raise FormatError("unseal.truncated", f"{rest} bytes of a record")
        try:
            head = parse_head(self._stream[self._offset : self._offset + HEAD_BYTES])
        except FormatError as error:
            raise FormatError("unseal.class", error.detail) from error
        if head.index != self._index:
            raise self._misplaced(head.index)
        size = head.size_class.wire_bytes
        if rest < size:
            raise FormatError("unseal.truncated", f"{rest} of {size} bytes")
        return head, self._stream[self._offset : self._offset + size]

    def _misplaced(self, found: int) -> VerificationError:
        if found < self._index:
            return VerificationError("unseal.replayed", f"record {found} comes a second time")
        if self._index in _indices(self._stream, self._offset):
            return VerificationError("unseal.reordered", f"record {found} stands in its place")
        gap = f"records {self._index} to {found - 1} are missing"
        return VerificationError("unseal.missing", gap)

    def _open(self, head: RecordHead, wire: bytes) -> Record:
        """Steps 3 and 4: decrypt, parse, compare with what was before."""
        if self._mixed and self._psk is None:
            raise VerificationError(
                "unseal.psk", "from here on the shared key of its time is needed (--psk)"
            )
        aad = associated_data(self._boot_id, head, self._tag)
        try:
            plaintext = AESGCM(self._key).decrypt(NONCE, wire[HEAD_BYTES:], aad)
        except InvalidTag as error:
            hint = ", or another shared key" if self._mixed else ""
            raise VerificationError("unseal.forged", f"does not open: changed{hint}") from error
        try:
            record = parse_plaintext(plaintext)
        except FormatError as error:
            raise FormatError("unseal.record", str(error)) from error
        if record.dropped < self._dropped:
            raise FormatError("unseal.dropped", "the count of dropped entries fell")
        self._dropped = record.dropped
        return record

    def _admit(self, record: Record) -> None:
        """Steps 5 to 8: what this kind may do here."""
        first_entry = not self._entries
        if first_entry != (record.kind is Kind.EVIDENCE):
            raise FormatError("unseal.evidence-place", "record 1, and nothing else, is evidence")
        if self._closing and record.kind is not Kind.SIGNATURE:
            raise FormatError("unseal.trailing", "something follows the END")
        if record.kind is Kind.SIGNATURE:
            self._verify_signature(record)
            return
        if self._index - self._signed >= SIGNED_AT_LEAST_EVERY:
            raise VerificationError("unseal.late", "a signature is late")
        if record.kind is not Kind.FILL:
            self._join(record)
        elif self._parts.is_open or record.data:
            raise FormatError("unseal.order", "a filler inside an entry, or with content")

    def _join(self, record: Record) -> None:
        entry = self._parts.add(self._index, record)
        if entry is None:
            return
        self._entries.append(entry)
        if entry.kind is Kind.EVIDENCE:
            self._bind(entry.data)

    def _bind(self, data: bytes) -> None:
        """Step 6: the signing key, and who vouches for it."""
        try:
            self._signing_key = Ed25519PublicKey.from_public_bytes(data[:SIGNING_KEY_BYTES])
        except ValueError as error:
            raise FormatError("unseal.evidence-place", "no signing key") from error
        evidence = data[SIGNING_KEY_BYTES:]
        if self._verify_evidence is None and evidence:
            return
        self._bound = False
        try:
            if not evidence or self._verify_evidence is None:
                raise VerificationError("evidence.absent", "the guest could get none")
            key = data[:SIGNING_KEY_BYTES]
            self._guest = self._verify_evidence(evidence, self._boot_id, key)
        except CcinitError as error:
            self.report(VerificationError("unseal.evidence", str(error)))
        else:
            self._bound = True

    def _verify_signature(self, record: Record) -> None:
        """Step 7."""
        message = signed_message(
            self._boot_id, self._index, self._tag, self._transcript.copy().digest()
        )
        if self._signing_key is None or len(record.data) != SIGNATURE_BYTES:
            raise VerificationError("unseal.signature", "no key, or not a signature")
        try:
            self._signing_key.verify(record.data, message)
        except InvalidSignature as error:
            raise VerificationError("unseal.signature", "not by the key of record 1") from error
        self._signed, self._signed_us = self._index, record.boottime_us
        self._ended = self._closing

    def judge_tail(self) -> None:
        """Step 8, for a stream whose every record was good."""
        if self._signed < self._records:
            unsigned = f"records {self._signed + 1} to {self._records} are not signed"
            self.report(VerificationError("unseal.unsigned", unsigned))
        if not self._ended:
            self.report(
                VerificationError("unseal.end", f"cut, or not over, after record {self._index}")
            )


def _hkdf(key: bytes, label: bytes) -> bytes:
    return HKDF(hashes.SHA256(), SEED_BYTES, None, label).derive(key)


def _indices(stream: bytes, offset: int) -> set[int]:
    """Return the indices that the rest of the stream claims, as far as its framing holds."""
    found: set[int] = set()
    while offset < len(stream):
        try:
            head = parse_head(stream[offset : offset + HEAD_BYTES])
        except FormatError:
            break
        found.add(head.index)
        offset += head.size_class.wire_bytes
    return found
