"""The ratchet: records in, ciphertext out; compromising the guest later reveals no earlier record.

Scope: the sender's side of `ccinit.formats.sealed_log` (the layout is documented there): the
sealed seed, one key per record, the chain of tags, the Ed25519 signatures and the pre-shared key
that enters after attestation. Left to others: what is logged and when (`ccinit.seal.log`), where
the bytes wait (`ccinit.seal.ring`), the evidence itself (the caller of `evidence_records`).

The order is enforced: record 1 is the evidence, a signature never comes later than the format
allows, and nothing follows `end_records`. Breaking it is `RuntimeError`, a bug of the caller.

Keys are overwritten after use, and OpenSSL wipes its own copies. CPython cannot promise more.
"""

import os
from typing import TYPE_CHECKING, Final

# The library's extension module, not the Python modules around it: those load RSA, padding schemes
# and a class for every block cipher, 1 MB of PID 1 that is not used. The wheel is locked by its
# digest.
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hashes

from ccinit.errors import FormatError
from ccinit.formats.sealed_log import (
    MIX_LABEL,
    NEXT_LABEL,
    NONCE,
    OWNER_KEY_BYTES,
    SEED_BYTES,
    SIGNED_AT_LEAST_EVERY,
    TAG_BYTES,
    BootId,
    Header,
    Kind,
    Record,
    RecordHead,
    SizeClass,
    Tag,
    associated_data,
    encode_plaintext,
    header_tag,
    hpke_info,
    plan_pieces,
    signed_message,
)
from ccinit.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MLKEM_BYTES: Final = 1184
_CHAIN_KINDS: Final = frozenset({Kind.EVIDENCE, Kind.SIGNATURE, Kind.MIX, Kind.END})


def open_stream(owner_key: bytes, boot_id: BootId) -> "SealedStream":
    """Begin a stream that only the holder of `owner_key`'s private key can read.

    Args:
        owner_key: ML-KEM-768 ‖ X25519 public key, 1216 bytes, from measured configuration.
        boot_id: sixteen random bytes of this boot.

    Raises:
        FormatError: `seal.owner_key`.
    """
    public_key = _load_owner_key(owner_key)
    hpke = openssl.hpke
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    seed = Secret(os.urandom(SEED_BYTES))
    try:
        sealed = suite.encrypt(seed.reveal(), public_key, info=hpke_info(boot_id))
    except ValueError as error:  # an X25519 point of low order gives no shared secret
        seed.wipe()
        raise FormatError("seal.owner_key", "the key agrees on nothing") from error
    header = Header(boot_id=boot_id, sealed_seed=sealed)
    return SealedStream(header=header, seed=seed, signing_key=openssl.ed25519.generate_key())


def _load_owner_key(data: bytes) -> openssl.hpke.MLKEM768X25519PublicKey:
    if len(data) != OWNER_KEY_BYTES:
        raise FormatError("seal.owner_key", f"{len(data)} bytes instead of {OWNER_KEY_BYTES}")
    try:
        return openssl.hpke.MLKEM768X25519PublicKey(
            openssl.mlkem.from_mlkem768_public_bytes(data[:_MLKEM_BYTES]),
            openssl.x25519.from_public_bytes(data[_MLKEM_BYTES:]),
        )
    except ValueError as error:
        raise FormatError("seal.owner_key", "not an MLKEM768-X25519 public key") from error


class SealedStream:
    """The sender's state of one stream. Each method returns bytes for the end of the stream."""

    def __init__(self, *, header: Header, seed: Secret, signing_key: "Ed25519PrivateKey") -> None:
        """Take over `seed`, which is wiped here."""
        self.header: Final = header.to_bytes()
        self.boot_id: Final = header.boot_id
        self.public_key: Final = signing_key.public_key().public_bytes_raw()
        self._signing_key: Ed25519PrivateKey | None = signing_key
        self._key = bytearray(seed.reveal())
        seed.wipe()
        self._index = 1
        self._tag = header_tag(self.header)
        self._transcript = hashes.Hash(hashes.SHA256())  # OpenSSL's: five times hashlib's speed
        self._transcript.update(self.header)
        self._unsigned = 0

    @property
    def ended(self) -> bool:
        """Whether the last record was made and the keys are wiped."""
        return self._signing_key is None

    @property
    def signature_due(self) -> bool:
        """Whether the next record must be a signature."""
        return self._unsigned >= SIGNED_AT_LEAST_EVERY - 1

    def evidence_records(self, evidence: bytes, *, boottime_us: int, dropped: int) -> bytes:
        """Make record 1 (and its continuation): the public key, and the evidence that binds it."""
        if self._index != 1:
            raise RuntimeError("the evidence is record 1")
        entry = self.public_key + evidence
        return b"".join(
            self._seal(
                Record(
                    boottime_us=boottime_us,
                    kind=Kind.EVIDENCE,
                    source="",
                    dropped=dropped,
                    data=entry[piece.start : piece.stop],
                    more=not piece.last,
                ),
                piece.size_class,
            )
            for piece in plan_pieces(len(entry), "")
        )

    def record(self, record: Record, size_class: SizeClass) -> bytes:
        """Seal one record of a kind that the stream does not make itself."""
        if record.kind in _CHAIN_KINDS:
            raise RuntimeError("out of the stream's order")
        self._require_turn()
        return self._seal(record, size_class)

    def signature_record(self, *, boottime_us: int, dropped: int) -> bytes:
        """Sign everything so far."""
        if self._signing_key is None or self._index == 1:
            raise RuntimeError("out of the stream's order")
        message = signed_message(
            self.boot_id, self._index, self._tag, self._transcript.copy().finalize()
        )
        signature = self._signing_key.sign(message)
        sealed = self._seal_own(Kind.SIGNATURE, boottime_us, dropped, signature)
        self._unsigned = 0
        return sealed

    def mix_record(self, psk: Secret, *, boottime_us: int, dropped: int) -> bytes:
        """Write the mark, then mix: later records cannot be read without the owner's shared key."""
        self._require_turn()
        sealed = self._seal_own(Kind.MIX, boottime_us, dropped)
        material = self._key + psk.reveal()
        self._step(material, MIX_LABEL)
        _wipe(material)
        return sealed

    def end_records(self, *, boottime_us: int, dropped: int) -> bytes:
        """Make the last two records, and wipe the keys."""
        self._require_turn()
        sealed = self._seal_own(Kind.END, boottime_us, dropped)
        sealed += self.signature_record(boottime_us=boottime_us, dropped=dropped)
        _wipe(self._key)
        self._signing_key = None
        return sealed

    def _require_turn(self) -> None:
        if self._index == 1 or self.signature_due:
            raise RuntimeError("out of the stream's order")

    def _seal_own(self, kind: Kind, boottime_us: int, dropped: int, data: bytes = b"") -> bytes:
        """Seal a record that the stream itself makes, which has no source and is small."""
        record = Record(boottime_us=boottime_us, kind=kind, source="", dropped=dropped, data=data)
        return self._seal(record, SizeClass.SMALL)

    def _seal(self, record: Record, size_class: SizeClass) -> bytes:
        if self.ended:
            raise RuntimeError("the stream has ended")
        head = RecordHead(size_class=size_class, index=self._index)
        plaintext = encode_plaintext(record, size_class)
        aad = associated_data(self.boot_id, head, self._tag)
        wire = head.to_bytes() + openssl.aead.AESGCM(self._key).encrypt(NONCE, plaintext, aad)
        self._transcript.update(wire)
        self._tag = Tag(wire[-TAG_BYTES:])
        self._index += 1
        self._unsigned += 1
        self._step(self._key, NEXT_LABEL)
        return wire

    def _step(self, material: bytearray, label: bytes) -> None:
        following = bytearray(SEED_BYTES)
        openssl.kdf.HKDF(hashes.SHA256(), SEED_BYTES, None, label).derive_into(material, following)
        _wipe(self._key)
        self._key = following


def _wipe(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))
