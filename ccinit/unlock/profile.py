"""The disk ciphers, each as one constant, and the text of their dm-crypt tables.

The kernel accepts unsafe combinations: an 80-byte key as AES-192, a tag that leaves one byte for
the MAC, a cipher mode that repeats nonces. So cipher, key length and tag length are never given
separately, and never come from outside.

`AEAD`: AES-256-XTS encrypts, HMAC-SHA256 authenticates sector number, IV and ciphertext. The IV is
random, so that the host cannot tell whether a rewritten block changed. `CRYPT`: AES-256-XTS alone,
for scratch whose owner has chosen it and for LUKS2 volumes.
"""

from ccinit.formats.disk.integrity import BLOCK_BYTES, TAG_BYTES
from ccinit.kernel.block import SECTOR_BYTES
from ccinit.kernel.dm import DmTarget
from ccinit.values import frozen

BLOCK_SECTORS = BLOCK_BYTES // SECTOR_BYTES


@frozen
class DiskCipher:
    """A cipher with the only key and tag lengths that are right for it.

    Attributes:
        cipher: as dm-crypt names it.
        key_bytes: encryption key (AES-256-XTS, 64), then authentication key (HMAC-SHA256, 32).
        tag_bytes: stored per block: 16 bytes of random IV, then 16 bytes of MAC; 0 without tags.
    """

    cipher: str
    key_bytes: int
    tag_bytes: int


AEAD = DiskCipher(
    cipher="capi:authenc(hmac(sha256),xts(aes))-random", key_bytes=64 + 32, tag_bytes=TAG_BYTES
)
CRYPT = DiskCipher(cipher="capi:xts(aes)-plain64", key_bytes=64, tag_bytes=0)


def plan_crypt_target(
    disk_bytes: int, disk: str, key_description: str, *, start_bytes: int = 0
) -> DmTarget:
    """Return the dm-crypt target of `CRYPT` over a disk.

    Args:
        disk_bytes: of the whole disk.
        disk: its node, or its `major:minor`, as the kernel reports an active table.
        key_description: of a logon key in the process keyring.
        start_bytes: what lies before the ciphertext.
    """
    return DmTarget(
        length_sectors=(disk_bytes - start_bytes) // SECTOR_BYTES,
        kind="crypt",
        parameters=(
            f"{CRYPT.cipher} :{CRYPT.key_bytes}:logon:{key_description} 0 {disk}"
            f" {start_bytes // SECTOR_BYTES} 1 sector_size:{BLOCK_BYTES}"
        ),
    )


def plan_aead_target(disk_bytes: int, integrity_node: str, key_description: str) -> DmTarget:
    """Return the dm-crypt target over a dm-integrity device; the key is named, not given.

    Args:
        disk_bytes: usable size, a multiple of 4096.
        integrity_node: the device below.
        key_description: of a logon key in the process keyring.
    """
    key = f":{AEAD.key_bytes}:logon:{key_description}"
    return DmTarget(
        length_sectors=disk_bytes // SECTOR_BYTES,
        kind="crypt",
        parameters=(
            f"{AEAD.cipher} {key} 0 {integrity_node} 0"
            f" 2 integrity:{AEAD.tag_bytes}:aead sector_size:{BLOCK_BYTES}"
        ),
    )
