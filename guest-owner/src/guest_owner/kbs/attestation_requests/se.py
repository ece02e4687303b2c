"""Requests to the ultravisors of IBM Z: what this KBS asks a Secure Execution guest to answer.

An attestation request control block (s390-tools, `pvattest create`; numbers big-endian):

    header       48   8 zeros, version, size, IV (12), 11 zeros, key slots (1), 4 zeros, secret size
    flags         8   from the most significant bit: 1 nonce, 2 and 3 the hashes of host keys
    algorithm     4   1, HMAC-SHA-512; then 4 zeros
    public key  160   of the request, on P-521; coordinates of 80 bytes
    key slot     80   one for each machine: SHA-256 of its key, wrapped request key (32), tag (16)
    secret       80   encrypted by the request key: key of the measurement (64), nonce (16)
    tag          16

Host key documents are certificates of machines. The owner registers them as `roots` of `se` after
checking their chain to IBM (`pvverify` or `genprotimg` do that), since whoever has one of their
private keys can forge any evidence. The key of a measurement goes to the guest, sealed under a key
of this KBS, and comes back with the evidence. So the KBS need not remember it, and `unseal` can
judge a log without the KBS.

Anybody may cause a request, which takes a P-521 exchange, 1 ms, for each machine. So all requests
of a minute share the key that the machines unwrap; the rest of each request is its own.
"""

import hashlib
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.evidence.se import HEADER_TAGS_BYTES, SeRequest, encode_se_request
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import Nonce
from guest_owner.kbs.attestation_requests.sealing import seal, unseal
from guest_owner.kbs.references.roots import load_certificate
from guest_owner.kbs.references.values import References

HASH_BYTES = 32
ADDITIONAL_BYTES = 2 * HASH_BYTES
MEASUREMENT_KEY_BYTES, NONCE_BYTES = 64, 16
MAX_HOST_KEYS = 255

_HEADER = struct.Struct(">8xII12s11xB4xI")
_VERSION = 0x100
_ATTESTATION = struct.Struct(">QI4x")
_FLAGS = 1 << 62 | 1 << 61 | 1 << 60
_HMAC_SHA512 = 1
_COORDINATE_BYTES = 80
_TAG_BYTES, _IV_BYTES = 16, 12
_SHARED_SECONDS = 60  # random IVs under one key are good for far more requests than that
_REASON = "se.request"
_KEY_LABEL, _NONCE_LABEL = b"ccinit/se/key/v1", b"ccinit/se/nonce/v1"


@dataclass(frozen=True, slots=True)
class RequestSecrets:
    """What only the maker of a request and the machine's ultravisor have."""

    measurement_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _WrappedKey:
    """The key of requests, wrapped for each machine.

    Attributes:
        public_key: our side of the exchanges, made for this key alone; coordinates.
        slots: one for each machine.
    """

    key: bytes = field(repr=False)
    public_key: bytes
    slots: tuple[bytes, ...]


def read_host_key(certificate: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a host key document, DER: the public key of one machine.

    Raises:
        FormatError: `se.host_key`, not one of a machine's.
    """
    key = _public_key(load_certificate(certificate, "se.host_key"))
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP521R1):
        raise FormatError("se.host_key", "a host key document has a key on P-521")
    return key


def hash_host_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the name of a machine's key in key slots and additional data, 32 bytes."""
    return hashlib.sha256(_coordinates(key)).digest()


def check_host_keys(certificates: Sequence[bytes]) -> None:
    """Check that one request can address all these machines, as it addresses all registered ones.

    Raises:
        FormatError: `se.host_key`, one is no host key document; more than fit into a request.
    """
    for certificate in certificates:
        read_host_key(certificate)
    if len(certificates) > MAX_HOST_KEYS:
        detail = f"{len(certificates)} machines, {MAX_HOST_KEYS} fit into a request: remove some"
        raise FormatError("se.host_key", detail)


def make_se_nonce(references: References) -> Nonce:
    """Return the nonce of a handshake: a request that a registered machine can answer, as JSON.

    Raises:
        VerificationError: `se.host_key`, no machine is registered, or more than fit.
        FormatError: `se.host_key`.
    """
    if references.request_key is None:
        raise VerificationError("se.host_key", "no machine is registered")
    machines = tuple(
        certificate for root in references.roots_of(Tee.SE) for certificate in root.certificates
    )
    wrapped = _wrap_shared_key(machines, int(time.monotonic() // _SHARED_SECONDS))
    return Nonce(encode_se_request(_make_request(wrapped, references.request_key)).decode())


def open_secrets(
    sealing_key: bytes | None, sealed_key: bytes, sealed_nonce: bytes
) -> RequestSecrets:
    """Return the secrets of a request that was made under this key.

    Raises:
        VerificationError: `se.request`, it was not.
    """
    return RequestSecrets(
        unseal(sealing_key, _KEY_LABEL, sealed_key, MEASUREMENT_KEY_BYTES, _REASON),
        unseal(sealing_key, _NONCE_LABEL, sealed_nonce, NONCE_BYTES, _REASON),
    )


@lru_cache(maxsize=1)
def _wrap_shared_key(certificates: tuple[bytes, ...], _minute: int) -> _WrappedKey:
    return _wrap_key([read_host_key(certificate) for certificate in certificates])


def _wrap_key(host_keys: Sequence[ec.EllipticCurvePublicKey]) -> _WrappedKey:
    if not 0 < len(host_keys) <= MAX_HOST_KEYS:
        detail = f"{len(host_keys)} registered, 1 to {MAX_HOST_KEYS} fit"
        raise VerificationError("se.host_key", detail)
    own, key = ec.generate_private_key(ec.SECP521R1()), os.urandom(32)
    slots = tuple(_slot(own, known, key) for known in host_keys)
    return _WrappedKey(key=key, public_key=_coordinates(own.public_key()), slots=slots)


def _slot(
    own: ec.EllipticCurvePrivateKey, host_key: ec.EllipticCurvePublicKey, key: bytes
) -> bytes:
    shared = own.exchange(ec.ECDH(), host_key)
    wrapping_key = hashlib.sha256(shared + (1).to_bytes(4, "big")).digest()
    # A fixed IV is safe: our side of the exchange is new, so this wrapping key is used only once.
    return hash_host_key(host_key) + AESGCM(wrapping_key).encrypt(bytes(_IV_BYTES), key, b"")


def _make_request(wrapped: _WrappedKey, sealing_key: bytes) -> SeRequest:
    secrets = RequestSecrets(os.urandom(MEASUREMENT_KEY_BYTES), os.urandom(NONCE_BYTES))
    return SeRequest(
        blob=_encrypt(wrapped, secrets),
        additional_bytes=ADDITIONAL_BYTES,
        sealed_key=seal(sealing_key, _KEY_LABEL, secrets.measurement_key),
        sealed_nonce=seal(sealing_key, _NONCE_LABEL, secrets.nonce),
        # Trustee names here the one image that it expects; we accept any registered one.
        header_tags=bytes(HEADER_TAGS_BYTES),
    )


def _encrypt(wrapped: _WrappedKey, secrets: RequestSecrets) -> bytes:
    iv, secret = os.urandom(_IV_BYTES), secrets.measurement_key + secrets.nonce
    body = _ATTESTATION.pack(_FLAGS, _HMAC_SHA512) + wrapped.public_key + b"".join(wrapped.slots)
    size = _HEADER.size + len(body) + len(secret) + _TAG_BYTES
    authenticated = _HEADER.pack(_VERSION, size, iv, len(wrapped.slots), len(secret)) + body
    return authenticated + AESGCM(wrapped.key).encrypt(iv, secret, authenticated)


def _coordinates(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return b"".join(value.to_bytes(_COORDINATE_BYTES, "big") for value in (numbers.x, numbers.y))


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError("se.host_key", "the certificate's key cannot be read") from error
