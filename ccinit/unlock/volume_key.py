"""From what the KBS releases to the keys of one volume.

HKDF-SHA256 (RFC 5869) binds the disk key to pod and volume, so that one resource stored under two
names gives two keys. Values that look like mistakes are refused: a wrong length, one repeated byte,
or text.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ccinit.errors import VerificationError
from ccinit.formats.disk.luks2 import SEAL_KEY_BYTES, seal_info
from ccinit.secret import Secret
from ccinit.unlock.profile import AEAD

RELEASED_BYTES = 64


def derive_encryption_key(released: Secret, pod: str, volume: str) -> Secret:
    """Return the 96-byte disk key of `volume` in `pod`; the caller wipes both secrets.

    Raises:
        VerificationError: `volume.key`, what the KBS released is no key.
    """
    content = verify_released(released).reveal()
    info = f"ccinit/volume/v1/{pod}/{volume}/encryption".encode()
    return _derive(content, info, AEAD.key_bytes)


def derive_seal_key(released: Secret, pod: str, volume: str) -> Secret:
    """Return the 32-byte key that seals the LUKS2 header of `volume` in `pod`.

    Raises:
        VerificationError: `volume.key`, what the KBS released is no key.
    """
    content = verify_released(released).reveal()
    return _derive(content, seal_info(pod, volume), SEAL_KEY_BYTES)


def _derive(content: bytes, info: bytes, length: int) -> Secret:
    hkdf = HKDF(algorithm=SHA256(), length=length, salt=None, info=info)
    return Secret(hkdf.derive(content))


def verify_released(released: Secret) -> Secret:
    """Return what the KBS released if it is plausible as a key.

    Raises:
        VerificationError: `volume.key`.
    """
    content = released.reveal()
    if len(content) != RELEASED_BYTES:
        raise VerificationError(
            "volume.key", f"expected {RELEASED_BYTES} bytes, found {len(content)}"
        )
    if len(set(content)) == 1:
        raise VerificationError("volume.key", "one byte repeated")
    # 64 random bytes are all below 128 only once in 2^64 times.
    if content.isascii():
        raise VerificationError("volume.key", "text instead of random bytes")
    return released
