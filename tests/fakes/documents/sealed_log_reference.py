"""A reader of sealed logs written from `docs/sealed-log.md` alone.

It shares no line with the guest's writer or `guest_owner.sealed_log`: HPKE's key schedule, the
KEM's combiner and MessagePack are done here by hand, so that the document is what is tested. What
is wrong with a stream is an `UnreadableError` that names the step of the document's list.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER_SIZE = 1192
SIZES = {1: 512, 2: 4096, 3: 65536}
EVIDENCE, SIGNATURE, MIX, END, FILL = 6, 7, 8, 11, 12
GOES_ON = 0x80
LONGEST_ENTRY = 1 << 20
SUITE_ID = b"HPKE" + struct.pack(">HHH", 0x647A, 1, 2)


class UnreadableError(Exception):
    """`step` of the document's list failed at record `index`."""

    def __init__(self, step: int, index: int, why: str) -> None:
        super().__init__(f"step {step}, record {index}: {why}")
        self.step = step
        self.index = index


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry, put together; `index` is its first record's number."""

    index: int
    boottime_us: int
    kind: int
    source: str
    dropped: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Plain:
    """One record's fields."""

    boottime_us: int
    kind: int
    source: str
    dropped: int
    data: bytes


def read_stream(stream: bytes, owner_seed: bytes, psk: bytes) -> tuple[list[Entry], int]:
    """Return the entries and the number of records of a stream that is over.

    Raises:
        UnreadableError: see there.
    """
    plains = list(_open_records(stream, owner_seed, psk))
    if [plain.kind for plain in plains[-2:]] != [END, SIGNATURE]:
        raise UnreadableError(7, len(plains), "no END and SIGNATURE")
    return list(_put_together(plains)), len(plains)


# HPKE, RFC 9180 section 5.1 with the KEM of the document.


def _extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + SUITE_ID + label + material, "sha256")


def _expand(key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = struct.pack(">H", size) + b"HPKE-v1" + SUITE_ID + label + info
    return hmac.digest(key, labelled + b"\x01", "sha256")[:size]  # never more than one block


def _decapsulate(encapsulated: bytes, owner_seed: bytes) -> bytes:
    expanded = hashlib.shake_256(owner_seed).digest(96)
    lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = X25519PrivateKey.from_private_bytes(expanded[64:])
    theirs = encapsulated[1088:]
    parts = (
        lattice.decapsulate(encapsulated[:1088]),
        curve.exchange(X25519PublicKey.from_public_bytes(theirs)),
        theirs,
        curve.public_key().public_bytes_raw(),
        bytes.fromhex("5c2e2f2f5e5c"),
    )
    return hashlib.sha3_256(b"".join(parts)).digest()


def open_seed(header: bytes, owner_seed: bytes) -> bytes:
    """Step 1: the 32 bytes that the header seals."""
    if len(header) != HEADER_SIZE or header[:8] != b"CCLOG1\x00\x01":
        raise UnreadableError(1, 0, "not a header of suite 1")
    shared = _decapsulate(header[24:1144], owner_seed)
    info = b"ccinit/log/v1" + header[8:24]
    context = b"\x00" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    secret = _extract(shared, b"secret", b"")
    key = _expand(secret, b"key", context, 32)
    nonce = _expand(secret, b"base_nonce", context, 12)
    try:
        return AESGCM(key).decrypt(nonce, header[1144:], b"")
    except InvalidTag as error:
        raise UnreadableError(1, 0, "the seed does not open") from error


def _hkdf(material: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(bytes(32), material, "sha256"), info + b"\x01", "sha256")


def _open_records(stream: bytes, owner_seed: bytes, psk: bytes) -> Iterator[Plain]:
    """Steps 1 to 7, but for long entries and a missing end."""
    header = stream[:HEADER_SIZE]
    chain = Chain(key=open_seed(header, owner_seed), boot_id=header[8:24], tag=_short_hash(header))
    signer = Signer()
    offset, index, dropped, over = HEADER_SIZE, 1, 0, False
    while offset < len(stream):
        if over:
            raise UnreadableError(7, index, "something follows the end")
        wire = _frame(stream, offset, index)
        plain = chain.open(wire, index)
        if plain.dropped < dropped:
            raise UnreadableError(4, index, "the count fell")
        signed = b"ccinit/log/signature/v1\0" + chain.boot_id + wire[1:9] + chain.tag
        signer.admit(plain, index, signed + hashlib.sha256(stream[:offset]).digest())
        over = plain.kind == SIGNATURE and signer.ending
        chain.advance(wire, psk if plain.kind == MIX else None)
        yield plain
        offset, index, dropped = offset + len(wire), index + 1, plain.dropped


def _frame(stream: bytes, offset: int, index: int) -> bytes:
    """Step 2."""
    head = stream[offset : offset + 9]
    if len(head) < 9 or head[0] not in SIZES:
        raise UnreadableError(2, index, "no record")
    wire = stream[offset : offset + SIZES[head[0]]]
    if len(wire) != SIZES[head[0]] or int.from_bytes(head[1:], "big") != index:
        raise UnreadableError(2, index, "cut, or another record")
    return wire


@dataclass(kw_only=True)
class Chain:
    """Step 3: the key and the tag that the next record needs."""

    key: bytes
    boot_id: bytes
    tag: bytes

    def open(self, wire: bytes, index: int) -> Plain:
        aad = self.boot_id + wire[1:9] + wire[:1] + self.tag
        try:
            return _decode(AESGCM(self.key).decrypt(bytes(12), wire[9:], aad), index)
        except InvalidTag as error:
            raise UnreadableError(3, index, "does not open") from error

    def advance(self, wire: bytes, psk: bytes | None) -> None:
        self.tag = wire[-16:]
        self.key = _hkdf(self.key, b"next")
        if psk is not None:
            self.key = _hkdf(self.key + psk, b"mix")


class Signer:
    """Steps 5 and 6: whose log it is, and up to where."""

    def __init__(self) -> None:
        self._key = b""  # of the first evidence record, whose first 32 bytes are there at once
        self._in_evidence = True
        self._unsigned = 0
        self.ending = False

    def admit(self, plain: Plain, index: int, message: bytes) -> None:
        """Judge record `index`, were it to sign `message`."""
        if (plain.kind & ~GOES_ON == EVIDENCE) != self._in_evidence:
            raise UnreadableError(5, index, "evidence, and nothing else, comes first")
        self._key = self._key or plain.data[:32]
        self._in_evidence = plain.kind == EVIDENCE | GOES_ON
        self._unsigned += 1
        if plain.kind == SIGNATURE:
            self._verify(plain.data, index, message)
            self._unsigned = 0
        elif self._unsigned == 64:
            raise UnreadableError(6, index, "the signature is late")
        self.ending = self.ending or plain.kind == END

    def _verify(self, signature: bytes, index: int, message: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(self._key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise UnreadableError(6, index, "not by the key of record 1") from error


def _put_together(plains: list[Plain]) -> Iterator[Entry]:
    """Step 4's last part: entries of several records, signatures aside."""
    parts: list[Plain] = []
    first = 0
    for index, plain in enumerate(plains, start=1):
        if plain.kind == SIGNATURE:
            continue
        kind = plain.kind & ~GOES_ON
        first = first if parts else index
        if kind == FILL and not parts:
            continue
        parts.append(plain)
        if {(part.kind & ~GOES_ON, part.source) for part in parts} != {(kind, plain.source)}:
            raise UnreadableError(4, index, "an entry does not go on")
        if plain.kind & GOES_ON:
            continue
        data = b"".join(part.data for part in parts)
        if len(data) > LONGEST_ENTRY:
            raise UnreadableError(4, index, "an entry is too long")
        yield Entry(
            index=first,
            boottime_us=parts[0].boottime_us,
            kind=kind,
            source=plain.source,
            dropped=plain.dropped,
            data=data,
        )
        parts = []


def _short_hash(header: bytes) -> bytes:
    return hashlib.sha256(header).digest()[:16]


# MessagePack, as far as a record needs it.


def _decode(text: bytes, index: int) -> Plain:
    """Step 4: an array of five, then zero bytes."""
    try:
        if text[0] != 0x95:
            raise UnreadableError(4, index, "not an array of five")
        boottime_us, offset = _number(text, 1)
        kind, offset = _number(text, offset)
        source, offset = _bytes(text, offset)
        dropped, offset = _number(text, offset)
        data, offset = _bytes(text, offset)
    except (KeyError, IndexError) as error:
        raise UnreadableError(4, index, "another field was expected") from error
    if text[offset:].strip(b"\0") or len(source) > 63:
        raise UnreadableError(4, index, "bytes behind the fields, or a long source")
    return Plain(
        boottime_us=boottime_us, kind=kind, source=source.decode(), dropped=dropped, data=data
    )


def _number(text: bytes, offset: int) -> tuple[int, int]:
    if text[offset] < 0x80:
        return text[offset], offset + 1
    size = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}[text[offset]]
    return int.from_bytes(text[offset + 1 : offset + 1 + size], "big"), offset + 1 + size


def _bytes(text: bytes, offset: int) -> tuple[bytes, int]:
    head = text[offset]
    if head & 0xE0 == 0xA0:
        start, size = offset + 1, head & 0x1F
    else:
        width = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}[head]
        start = offset + 1 + width
        size = int.from_bytes(text[offset + 1 : start], "big")
    return text[start : start + size], start + size
