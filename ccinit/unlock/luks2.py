"""LUKS2 volumes that were made elsewhere: opened from a copy of their header, by our own tables.

The disk's header is read once, into the guest's memory. A child without any rights parses that copy
(`luks2_job`) and finds the volume key. From then on nothing on the disk determines how it is
decrypted: the dm-crypt table consists of constants, built by the same code as for scratch. So it
does not matter if the host overwrites the header after it was read.

Content is encrypted but not authenticated, as is usual for such volumes: the host can corrupt
blocks and restore old ones. Volumes that the guest makes itself (`volume`) are protected against
more.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Protocol

from ccinit.errors import ConfigError, FormatError, VerificationError
from ccinit.formats.disk.luks2 import (
    COPY_BYTES,
    KEY_BYTES,
    PAYLOAD_OFFSET,
    STRIPES,
    Luks2Header,
    Pbkdf2,
    parse_luks2_header,
    verify_seal,
)
from ccinit.kernel.block import SECTOR_BYTES, BlockDevice, read_direct
from ccinit.kernel.dm import DmControl
from ccinit.secret import Secret
from ccinit.unlock.disk import check_disk
from ccinit.unlock.filesystem import mount_ext4, unmount_kept
from ccinit.unlock.stack import DiskStack, activate_crypt
from ccinit.unlock.volume_key import derive_seal_key, verify_released
from ccinit.values import frozen

HEADER_FD = "header"
"""The copy of the header, in memory."""

RELEASED_PIPE = "released"
"""The passphrase of the volume, as the KBS released it."""

VOLUME_KEY_FD = "volume-key"
"""Where the job puts the volume key."""

_HASH_BYTES = hashlib.sha256().digest_size


@frozen
class Luks2Request:
    """The volume that the header must belong to; `sealed` requires the owner's seal."""

    pod: str
    name: str
    sealed: bool


@frozen
class Luks2Reply:
    """The header opens; the key is in the pipe."""


class Luks2Channel(Protocol):
    """The job's connection to the outside."""

    @property
    def fds(self) -> Mapping[str, int]:
        """The fds that PID 1 gave, by name."""

    def read_secret(self, name: str, /) -> Secret:
        """Read the pipe `name`."""


def copy_header(name: str, disk: BlockDevice) -> bytes:
    """Read the one copy of the header of a volume's disk.

    Raises:
        ConfigError: `disk.size`, `disk.read_only`.
        VerificationError: `disk.changed`.
        KernelError: the disk cannot be read.
    """
    if disk.size_bytes <= PAYLOAD_OFFSET:
        raise ConfigError("disk.size", f"{name} has no room for more than a header")
    check_disk(name, disk)
    return read_direct(disk.node, 0, COPY_BYTES)


def luks2_job(request: Luks2Request, channel: Luks2Channel) -> Luks2Reply:
    """Check a header and open its key slot.

    Raises:
        VerificationError: `volume.key`; `luks2.seal`, `luks2.checksum`, `luks2.copies`;
            `luks2.key`, the slot does not open with what the KBS released.
        FormatError: `luks2.…`.
    """
    copy = os.pread(channel.fds[HEADER_FD], COPY_BYTES + 1, 0)
    with channel.read_secret(RELEASED_PIPE) as released:
        verify_released(released)
        if request.sealed:
            with derive_seal_key(released, request.pod, request.name) as key:
                verify_seal(copy, key.reveal())
        with open_key_slot(parse_luks2_header(copy), released) as volume_key:
            os.write(channel.fds[VOLUME_KEY_FD], volume_key.reveal())
    return Luks2Reply()


def open_key_slot(header: Luks2Header, passphrase: Secret) -> Secret:
    """Return the volume key, which the caller wipes.

    Raises:
        VerificationError: `luks2.key`.
    """
    slot_key = _derive(header.slot, passphrase.reveal(), KEY_BYTES)
    volume_key = Secret(merge_stripes(_decrypt_area(header.area, slot_key)))
    if _derive(header.check, volume_key.reveal(), len(header.digest)) != header.digest:
        volume_key.wipe()
        raise VerificationError("luks2.key", "the key slot does not open with this key")
    return volume_key


def _derive(parameters: Pbkdf2, secret: bytes, length: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret, parameters.salt, parameters.iterations, length)


def _decrypt_area(area: bytes, key: bytes) -> bytes:
    """Decrypt `aes-xts-plain64` over sectors of 512 bytes, numbered from 0."""
    # PID 1 loads this module, too, but does not need the library's cipher classes
    from cryptography.hazmat.primitives.ciphers import Cipher  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.algorithms import AES  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.modes import XTS  # noqa: PLC0415

    plain = b""
    for sector in range(len(area) // SECTOR_BYTES):
        cipher = Cipher(AES(key), XTS(sector.to_bytes(16, "little"))).decryptor()
        plain += cipher.update(area[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES])
    return plain


def merge_stripes(stripes: bytes) -> bytes:
    """Undo the anti-forensic splitter of LUKS (LUKS1 On-Disk Format, section 2.4)."""
    merged = bytes(KEY_BYTES)
    for index in range(STRIPES):
        stripe = stripes[index * KEY_BYTES : (index + 1) * KEY_BYTES]
        mixed = bytes(left ^ right for left, right in zip(merged, stripe, strict=True))
        merged = mixed if index == STRIPES - 1 else _diffuse(mixed)
    return merged


def _diffuse(data: bytes) -> bytes:
    return b"".join(
        hashlib.sha256(
            number.to_bytes(4, "big") + data[number * _HASH_BYTES : (number + 1) * _HASH_BYTES]
        ).digest()
        for number in range(len(data) // _HASH_BYTES)
    )


def receive_volume_key(fd: int) -> Secret:
    """Return the key that the job has written to its pipe; does not wait for it.

    Raises:
        FormatError: `luks2.volume_key`, the job wrote something else there, or nothing.
    """
    os.set_blocking(fd, False)
    try:
        content = os.read(fd, KEY_BYTES + 1)
    except BlockingIOError:
        content = b""
    if len(content) != KEY_BYTES:
        raise FormatError("luks2.volume_key", f"expected {KEY_BYTES} bytes, found {len(content)}")
    return Secret(content)


def activate_luks2(
    control: DmControl, name: str, disk: BlockDevice, volume_key: Secret, target: str
) -> DiskStack:
    """Open a volume whose header was accepted, and mount its ext4; `close` undoes it.

    Raises:
        KernelError: the kernel refused a step; everything before it is undone.
        VerificationError: `crypt.table`, the kernel's view differs.
    """
    with ExitStack() as undo:
        stack = activate_crypt(control, name, disk, volume_key, start_bytes=PAYLOAD_OFFSET)
        undo.callback(stack.close)
        mount_ext4(stack.node, target)
        stack.push(lambda: unmount_kept(target))
        undo.pop_all()
    return stack
