"""The sealed log: a byte stream that the host stores and only the owner of the guest can read.

This module has the layout of version 1 (for readers in other languages: docs/sealed-log.md), the
contexts that its ciphers and signatures are bound to, and how a long entry is cut into records.
Left to others are encryption and the ratchet (`ccinit.seal.stream`), what may be logged when
(`ccinit.seal.log`), and decryption and the verdict on a stream (`guest_owner.sealed_log.unseal`).

Integers are big-endian. A stream is one header and then records, without gaps or separators.

Header, "record 0", 1192 bytes, in clear:

    offset  bytes  field
    0       6      `CCLOG1`
    6       2      suite; 1 is the only one
    8       16     boot_id, random for each boot
    24      1120   HPKE encapsulated key
    1144    48     HPKE ciphertext of the 32-byte seed, with its tag

Suite 1: HPKE (RFC 9180) base mode, single shot, empty AAD, KEM MLKEM768-X25519, KDF HKDF-SHA256,
AEAD AES-256-GCM, info = `ccinit/log/v1` ‖ boot_id; records AES-256-GCM; ratchet HKDF-SHA256;
signature Ed25519. The owner's public key is ML-KEM-768 (1184 bytes) ‖ X25519 (32 bytes).

Record i (i = 1, 2, 3, …), 512, 4096 or 65536 bytes:

    offset  bytes     field
    0       1         class: 1 = 512, 2 = 4096, 3 = 65536 bytes for the whole record
    1       8         i
    9       size-25   ciphertext
    size-16 16        tag(i)

    key    K(1) = seed; K(i+1) = HKDF(salt none, ikm K(i), info `next`, 32 bytes)
           after a record of kind MIX: K(i+1) = HKDF(ikm HKDF(K(i), `next`) ‖ psk, info `mix`)
    nonce  twelve zero bytes: no key seals two records
    AAD    boot_id ‖ i as 8 bytes ‖ class ‖ tag(i-1); tag(0) = SHA-256(header), first 16 bytes

Plaintext: one msgpack array, then zero bytes to the end:

    [boottime_us, kind, source, dropped, data]
    boottime_us  unsigned: CLOCK_BOOTTIME in microseconds
    kind         unsigned: low seven bits a `Kind`; bit 7 = the entry goes on in the next record of
                 the same kind and source (a SIGNATURE may stand between)
    source       string of at most 63 bytes: container name, or a part of the guest
    dropped      unsigned: entries thrown away since boot, because there was no room or no
                 permission; never falls
    data         binary

What the kinds carry:

    CODE       phase u8 ‖ code u8: numbers that the host sees as well (`planes.host_rpc`)
    EVENT      UTF-8 text of the guest itself
    STDOUT     bytes of a container, as they came      STDERR the same
    KERNEL     one record of /dev/kmsg, as it came
    EVIDENCE   Ed25519 public key (32) ‖ evidence (`ccinit.formats.evidence.log_key`) that reports
               `report_data`, or nothing if none could be had; it is record 1, and nothing else is
    SIGNATURE  Ed25519 over `signed_message` (64); at least one in 64 records, and the last record
    MIX        empty; the pre-shared key enters the ratchet after this record
    RUNTIME    what crun and other programs of the guest wrote
    REPORT     the reason of the guest's end
    END        empty; followed by one SIGNATURE and nothing more
    FILL       empty; makes a batch as long as every other
"""

import hashlib
import struct
from collections.abc import Iterator
from enum import IntEnum

import msgpack  # type: ignore[import-untyped]

from ccinit.annotations import Final, NewType
from ccinit.errors import FormatError, LimitExceededError
from ccinit.values import frozen

MAGIC: Final = b"CCLOG1"
SUITE: Final = 1
BOOT_ID_BYTES: Final = 16
OWNER_KEY_BYTES: Final = 1184 + 32  # ML-KEM-768 encapsulation key, then X25519 public key
ENCAPSULATED_BYTES: Final = 1088 + 32
SEED_BYTES: Final = 32
MIN_PSK_BYTES: Final = 32
TAG_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
SIGNING_KEY_BYTES: Final = 32
SIGNED_AT_LEAST_EVERY: Final = 64  # records, the signature itself included

NONCE: Final = bytes(12)
NEXT_LABEL: Final = b"next"
MIX_LABEL: Final = b"mix"

MAX_SOURCE_BYTES: Final = 63  # a DNS label, which container names are
MAX_ENTRY_BYTES: Final = 1 << 20
MAX_EVIDENCE_BYTES: Final = 256 << 10  # TDX and SNP with certificate chains take 10 to 20 KiB

_PREFIX: Final = struct.Struct(">6sH16s")
_HEAD: Final = struct.Struct(">BQ")
_MORE: Final = 0x80
HEADER_BYTES: Final = _PREFIX.size + ENCAPSULATED_BYTES + SEED_BYTES + TAG_BYTES
HEAD_BYTES: Final = _HEAD.size

# array head 1, three integers of at most 9, head of a string of 63 bytes 2, head of a binary 5
_MSGPACK_OVERHEAD: Final = 1 + 9 + 2 + 2 + 9 + 5
_MAX_UINT: Final = (1 << 64) - 1
_MEDIUM_RUN: Final = 8  # for more 4 KiB records than this, one of 64 KiB is cheaper

BootId = NewType("BootId", bytes)
Tag = NewType("Tag", bytes)


class SizeClass(IntEnum):
    """How many bytes a record has on the wire; the host learns no more of its length."""

    SMALL = 1
    MEDIUM = 2
    LARGE = 3

    @property
    def wire_bytes(self) -> int:
        """Size of the whole record."""
        return _WIRE_BYTES[self]

    @property
    def plain_bytes(self) -> int:
        """Size of the padded plaintext."""
        return _WIRE_BYTES[self] - HEAD_BYTES - TAG_BYTES


_WIRE_BYTES: Final = {SizeClass.SMALL: 512, SizeClass.MEDIUM: 4096, SizeClass.LARGE: 65536}


class Kind(IntEnum):
    """What a record is; the module docstring says what each carries."""

    CODE = 1
    EVENT = 2
    STDOUT = 3
    STDERR = 4
    KERNEL = 5
    EVIDENCE = 6
    SIGNATURE = 7
    MIX = 8
    RUNTIME = 9
    REPORT = 10
    END = 11
    FILL = 12


@frozen
class Header:
    """Record 0. `sealed_seed` is the HPKE message: encapsulated key, then ciphertext and tag."""

    boot_id: BootId
    sealed_seed: bytes

    def to_bytes(self) -> bytes:
        """Return the 1192 bytes that begin a stream."""
        return _PREFIX.pack(MAGIC, SUITE, self.boot_id) + self.sealed_seed


@frozen
class Record:
    """The plaintext of one record. `more`: the entry goes on in the next record of its kind."""

    boottime_us: int
    kind: Kind
    source: str
    dropped: int
    data: bytes
    more: bool = False


@frozen
class RecordHead:
    """The clear part of a record."""

    size_class: SizeClass
    index: int

    def to_bytes(self) -> bytes:
        """Return the nine bytes."""
        return _HEAD.pack(self.size_class, self.index)


def parse_boot_id(data: bytes) -> BootId:
    """Return `data` as a boot id.

    Raises:
        FormatError: `sealed_log.boot_id`, it does not have sixteen bytes.
    """
    if len(data) != BOOT_ID_BYTES:
        raise FormatError(
            "sealed_log.boot_id", f"expected {BOOT_ID_BYTES} bytes, found {len(data)}"
        )
    return BootId(bytes(data))


def parse_header(data: bytes) -> Header:
    """Read record 0 from exactly `HEADER_BYTES` bytes.

    Raises:
        FormatError: `sealed_log.header`, `.magic` or `.suite`.
    """
    if len(data) != HEADER_BYTES:
        raise FormatError("sealed_log.header", f"expected {HEADER_BYTES} bytes, found {len(data)}")
    magic, suite, boot_id = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise FormatError("sealed_log.magic", "not a sealed log of version 1")
    if suite != SUITE:
        raise FormatError("sealed_log.suite", f"suite {suite} is unknown")
    return Header(boot_id=parse_boot_id(boot_id), sealed_seed=bytes(data[_PREFIX.size :]))


def parse_head(data: bytes) -> RecordHead:
    """Read the clear part of a record from its first nine bytes.

    Raises:
        FormatError: `sealed_log.head` (too short) or `.class` (unknown size class).
    """
    if len(data) < HEAD_BYTES:
        raise FormatError("sealed_log.head", f"{len(data)} bytes")
    code, index = _HEAD.unpack_from(data)
    if code not in _WIRE_BYTES:
        raise FormatError("sealed_log.class", f"class {code} is unknown")
    return RecordHead(size_class=SizeClass(code), index=index)


def encode_plaintext(record: Record, size_class: SizeClass) -> bytes:
    """Return the padded plaintext of `record`, `size_class.plain_bytes` long.

    Raises:
        LimitExceededError: the record does not fit into its class.
    """
    kind = record.kind | (_MORE if record.more else 0)
    fields = (record.boottime_us, kind, record.source, record.dropped, record.data)
    packed: bytes = msgpack.packb(fields)
    padding = size_class.plain_bytes - len(packed)
    if padding < 0:
        raise LimitExceededError("sealed_log.size", f"{len(packed)} bytes in {size_class.name}")
    return packed + bytes(padding)


def parse_plaintext(data: bytes) -> Record:
    """Read one decrypted record; anything but one array and then zero bytes is refused.

    Raises:
        FormatError: `sealed_log.plaintext`, `.padding`, `.fields`, `.kind` or `.source`.
    """
    unpacker = msgpack.Unpacker(
        raw=False, max_buffer_size=SizeClass.LARGE.wire_bytes, max_array_len=5, max_map_len=0
    )
    try:
        unpacker.feed(data)
        fields = unpacker.unpack()
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FormatError("sealed_log.plaintext", type(error).__name__) from error
    end = unpacker.tell()
    if data.count(0, end) != len(data) - end:
        raise FormatError("sealed_log.padding", "bytes after the fields")
    return _record_of(fields)


def _record_of(fields: object) -> Record:
    match fields:
        case [int(boottime_us), int(kind), str(source), int(dropped), bytes(data)]:
            numbers = (boottime_us, kind, dropped)
        case _:
            raise FormatError("sealed_log.fields", "not the five fields of a record")
    if any(isinstance(number, bool) or not 0 <= number <= _MAX_UINT for number in numbers):
        raise FormatError("sealed_log.fields", "a field is not an unsigned integer")
    try:
        known = Kind(kind & ~_MORE)
    except ValueError as error:
        raise FormatError("sealed_log.kind", f"kind {kind} is unknown") from error
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise FormatError("sealed_log.source", "source is too long")
    return Record(
        boottime_us=boottime_us,
        kind=known,
        more=bool(kind & _MORE),
        source=source,
        dropped=dropped,
        data=data,
    )


@frozen
class Piece:
    """One record of an entry: `entry[start:stop]` sealed at `size_class`."""

    size_class: SizeClass
    start: int
    stop: int
    last: bool


def capacity(size_class: SizeClass, source: str) -> int:
    """Return how many bytes of data fit into a record of `source`, whatever its numbers are."""
    return size_class.plain_bytes - _MSGPACK_OVERHEAD - len(source.encode())


def plan_pieces(length: int, source: str) -> Iterator[Piece]:
    """Cut an entry of `length` bytes into records, of small classes unless that takes too many.

    An empty entry is one empty record.
    """
    start = 0
    while True:
        rest = length - start
        if rest <= capacity(SizeClass.SMALL, source):
            size_class = SizeClass.SMALL
        elif rest <= _MEDIUM_RUN * capacity(SizeClass.MEDIUM, source):
            size_class = SizeClass.MEDIUM
        else:
            size_class = SizeClass.LARGE
        stop = start + min(rest, capacity(size_class, source))
        yield Piece(size_class=size_class, start=start, stop=stop, last=stop == length)
        if stop == length:
            return
        start = stop


def header_tag(header: bytes) -> Tag:
    """Return tag(0), to which record 1 is bound."""
    return Tag(hashlib.sha256(header).digest()[:TAG_BYTES])


def hpke_info(boot_id: BootId) -> bytes:
    """Return the `info` under which the seed is sealed."""
    return b"ccinit/log/v1" + boot_id


def associated_data(boot_id: BootId, head: RecordHead, previous: Tag) -> bytes:
    """Return the AAD of a record: its boot, place, class and predecessor."""
    return b"".join((boot_id, struct.pack(">QB", head.index, head.size_class), previous))


def signed_message(boot_id: BootId, index: int, previous: Tag, transcript: bytes) -> bytes:
    """Return what the SIGNATURE record `index` signs.

    Args:
        boot_id: of the header.
        index: of the SIGNATURE record itself.
        previous: tag of the record before it.
        transcript: SHA-256 over the header and all records before this one. Who knows the keys can
            make other records with the same AES-GCM tags, but not with the same hash.
    """
    return b"".join(
        (b"ccinit/log/signature/v1\0", boot_id, struct.pack(">Q", index), previous, transcript)
    )


def report_data(boot_id: BootId, signing_key: bytes) -> bytes:
    """Return the 64 bytes that evidence in record 1 must report (DESIGN section 7)."""
    return hashlib.sha512(b"ccinit/log/v1\0" + boot_id + signing_key).digest()
