"""From a collected stream back to the guest's log, and a verdict on every record of it.

Scope: the owner's side of `ccinit.formats.sealed_log`, which documents the layout. This is an
independent implementation, not the sender's code run backwards, so that a mistake shows as a
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

A failure of 1 to 5, a wrong or late signature (7), or bytes after the end stop the reading: nothing
after that record can be believed. A missing end or signature at the tail, and evidence that does
not verify, are findings about the whole stream. Reasons are the words above with the prefix
`unseal.`.

A log may be larger than memory: a line each second is 16 GB in a year. So the stream is read once,
from start to end, and only entries that no signature covers yet are kept, which step 7 bounds.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.sealed_log import (
    HEAD_BYTES,
    HEADER_BYTES,
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
from guest_owner.sealed_log.entries import EntryParts, LogEntry
from guest_owner.sealed_log.key import LogKey

EvidenceVerifier = Callable[[bytes, BootId, bytes], str]
"""Takes evidence, boot id and signing key; returns who is vouched for, or raises `CcinitError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong; `index` is the record it was found at, 0 being the header."""

    reason: str
    index: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How far a stream can be believed.

    Attributes:
        boot_id: of the header; None if the header is not one.
        records: how many records opened.
        signed: up to which record a signature covers the stream; 0 is none.
        signed_us: boot time of that signature: the guest was alive then.
        bound: whether evidence vouches for the signing key; None means that nobody checked.
        guest: what the verifier of the evidence says about the writer; empty if not bound.
        mixed: whether the owner's shared key protects the rest of the stream.
        ended: whether the guest finished it.
        findings: everything wrong, in the order of records.
    """

    boot_id: BootId | None
    records: int
    signed: int
    signed_us: int
    bound: bool | None
    guest: str
    mixed: bool
    ended: bool
    findings: tuple[Finding, ...]


class Unsealing:
    """One pass over one stream; it never raises for what the stream holds."""

    def __init__(
        self,
        stream: BinaryIO,
        key: LogKey,
        *,
        psk: bytes | None = None,
        verify_evidence: EvidenceVerifier | None = None,
    ) -> None:
        """Nothing is read yet; a pipe will do for `stream`."""
        self._stream = stream
        self._owner_key = key
        self._psk = psk
        self._verify_evidence = verify_evidence
        self._index = 0  # of the record being read
        self._boot_id = BootId(b"")
        self._key = b""
        self._tag = Tag(b"")
        self._transcript = hashlib.sha256()
        self._signing_key: Ed25519PublicKey | None = None  # until all of record 1 is there
        self._records = self._signed = self._signed_us = self._dropped = 0
        self._bound: bool | None = None
        self._guest = ""
        self._mixed = self._ended = False
        self._parts = EntryParts()
        self._last_kind: Kind | None = None  # of the newest entry
        self._unsigned: list[LogEntry] = []
        self._findings: list[Finding] = []

    def entries(self) -> Iterator[LogEntry]:
        """Read to the end, once; yield each entry when a signature covers it, the rest at last."""
        try:
            self._open_header(self._owner_key)
            while self._read_record():
                if self._signed == self._index:
                    yield from self._take_entries(is_signed=True)
            self._judge_tail()
        except CcinitError as error:
            self._report(error)
        yield from self._take_entries(is_signed=False)

    def verdict(self) -> Verdict:
        """Return what is found so far: the whole verdict once `entries` has ended."""
        return Verdict(
            boot_id=self._boot_id or None,
            records=self._records,
            signed=self._signed,
            signed_us=self._signed_us,
            bound=self._bound,
            guest=self._guest,
            mixed=self._mixed,
            ended=self._ended,
            findings=tuple(self._findings),
        )

    def _take_entries(self, *, is_signed: bool) -> Iterator[LogEntry]:
        entries, self._unsigned = self._unsigned, []
        return (replace(entry, is_signed=is_signed) for entry in entries)

    def _report(self, error: CcinitError) -> None:
        self._findings.append(Finding(reason=error.reason, index=self._index, detail=error.detail))

    def _open_header(self, key: LogKey) -> None:
        raw = self._stream.read(HEADER_BYTES)
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
        self._boot_id = header.boot_id
        self._tag = header_tag(raw)
        self._transcript.update(raw)

    def _read_record(self) -> bool:
        """Read the record that must come now; return whether there was one."""
        start = self._stream.read(HEAD_BYTES)
        if not start:
            return False
        self._index += 1
        if self._ended:
            raise VerificationError("unseal.trailing", "something follows the end")
        head, wire = self._frame(start)
        record = self._open(head, wire)
        # a signature covers only what comes before it, so the state moves on only after this
        self._admit(record)
        self._transcript.update(wire)
        self._tag = Tag(wire[-TAG_BYTES:])
        self._key = _hkdf(self._key, NEXT_LABEL)
        if record.kind is Kind.MIX:
            self._key = _hkdf(self._key + (self._psk or b""), MIX_LABEL)
            self._mixed = True
        self._records = self._index
        return True

    def _frame(self, start: bytes) -> tuple[RecordHead, bytes]:
        """Step 2: the whole of the record that starts so."""
        if len(start) < HEAD_BYTES:
            raise FormatError("unseal.truncated", f"{len(start)} bytes of a record")
        try:
            head = parse_head(start)
        except FormatError as error:
            raise FormatError("unseal.class", error.detail) from error
        size = head.size_class.wire_bytes
        wire = start + self._stream.read(size - HEAD_BYTES)
        if head.index != self._index:
            raise self._misplaced(head.index)
        if len(wire) < size:
            raise FormatError("unseal.truncated", f"{len(wire)} of {size} bytes")
        return head, wire

    def _misplaced(self, found: int) -> VerificationError:
        if found < self._index:
            return VerificationError("unseal.replayed", f"record {found} comes a second time")
        if self._index in _indices(self._stream):
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
        key = self._signing_key
        if (key is None) != (record.kind is Kind.EVIDENCE):
            raise FormatError("unseal.evidence-place", "record 1, and nothing else, is evidence")
        if self._last_kind is Kind.END and record.kind is not Kind.SIGNATURE:
            raise FormatError("unseal.trailing", "something follows the END")
        if key is not None and record.kind is Kind.SIGNATURE:
            self._verify_signature(record, key)
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
        self._unsigned.append(entry)
        self._last_kind = entry.kind
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
            self._report(VerificationError("unseal.evidence", str(error)))
        else:
            self._bound = True

    def _verify_signature(self, record: Record, key: Ed25519PublicKey) -> None:
        """Step 7."""
        message = signed_message(
            self._boot_id, self._index, self._tag, self._transcript.copy().digest()
        )
        if len(record.data) != SIGNATURE_BYTES:
            size = f"expected {SIGNATURE_BYTES} bytes, found {len(record.data)}"
            raise VerificationError("unseal.signature", size)
        try:
            key.verify(record.data, message)
        except InvalidSignature as error:
            raise VerificationError("unseal.signature", "not by the key of record 1") from error
        self._signed, self._signed_us = self._index, record.boottime_us
        self._ended = self._last_kind is Kind.END

    def _judge_tail(self) -> None:
        """Step 8, for a stream whose every record was good."""
        if self._signed < self._records:
            unsigned = f"records {self._signed + 1} to {self._records} are not signed"
            self._report(VerificationError("unseal.unsigned", unsigned))
        if not self._ended:
            self._report(
                VerificationError("unseal.end", f"cut, or not over, after record {self._index}")
            )


def _hkdf(key: bytes, label: bytes) -> bytes:
    return HKDF(hashes.SHA256(), SEED_BYTES, None, label).derive(key)


def _indices(stream: BinaryIO) -> Iterator[int]:
    """Yield the indices that the rest of the stream claims, as far as its framing holds."""
    while True:
        try:
            head = parse_head(stream.read(HEAD_BYTES))
        except FormatError:
            return
        yield head.index
        stream.read(head.size_class.wire_bytes - HEAD_BYTES)
