"""Persistent volumes: the owner's data on the host's disk, under a key that the KBS releases.

dm-integrity keeps tags and a journal on the disk itself, so a crash loses nothing that was synced;
the host can still put back an *older* state of the whole disk, which no guest alone can notice.
There is no header that says how to decrypt: cipher, layout and sizes are constants, and what the
kernel found on the disk is compared with them before and after it is opened.

A blank disk is formatted only under a grant that came with the key. Otherwise a host could make the
owner's data disappear behind a fresh file system. A creation that was cut off leaves a disk that is
neither blank nor a volume, and is refused: the host must offer a blank one again.
"""

import errno
from collections.abc import Sequence
from contextlib import ExitStack

from ccinit.errors import ConfigError, KernelError, VerificationError
from ccinit.kernel.block import BlockDevice, read_direct, read_size_bytes
from ccinit.kernel.dm import DmControl
from ccinit.secret import Secret
from ccinit.unlock.filesystem import (
    START_BYTES,
    FormatDevice,
    create_ext4,
    mount_ext4,
    unmount,
)
from ccinit.unlock.integrity import SUPERBLOCK_BYTES, IntegrityLayout, plan_disk_layout
from ccinit.unlock.profile import check_size
from ccinit.unlock.stack import DiskStack, activate_stack
from ccinit.unlock.volume_key import derive_encryption_key
from ccinit.values import frozen

JOURNAL_BYTES = 8 << 20
"""Held in guest memory too while the volume is open."""

_WRONG_DISK = ("volume.blank", "volume.unlock")


@frozen
class VolumeRequest:
    """One persistent volume to open.

    Attributes:
        pod: name of the pod and
        name: name of the volume; both go into the key.
        target: an existing directory to mount it at.
        may_create: the key came with the grant to format a blank disk.
    """

    pod: str
    name: str
    disk: BlockDevice
    target: str
    may_create: bool


def select_volume_disk(
    control: DmControl,
    requests: Sequence[VolumeRequest],
    released: Secret,
) -> VolumeRequest:
    """Return the one request, of those that differ in their disk only, whose disk is the volume.

    That is the disk which authenticates. Only if there is none, and under the grant, it is the one
    blank disk.

    Args:
        control: device-mapper.
        requests: one for each disk of the declared size that has no role yet.
        released: the 64 bytes from the KBS; the caller wipes them.

    Raises:
        VerificationError: `volume.ambiguous`; else the reason why the last disk was refused, or
            `volume.missing` without any.
        KernelError: the kernel refused a step for another reason than the disk's content.
    """
    refusal = VerificationError("volume.missing", "no disk has the declared size")
    opened, blank = [], []
    for request in requests:
        try:
            if authenticate_volume(control, request, released):
                opened.append(request)
            else:
                blank.append(request)
        except VerificationError as error:
            if error.reason not in _WRONG_DISK:
                raise
            refusal = error
    found = opened or blank
    if len(found) > 1:
        raise VerificationError("volume.ambiguous", f"{len(found)} disks could be the volume")
    if not found:
        raise refusal
    return found[0]


def authenticate_volume(control: DmControl, request: VolumeRequest, released: Secret) -> bool:
    """Return True if the disk is the volume, False if it is blank and may become it.

    Raises:
        VerificationError: it is neither; reasons as for `activate_volume`.
        KernelError: the kernel refused a step; everything before it is undone.
    """
    layout = _plan(request)
    if _decide_creation(request, layout):
        return False
    with derive_encryption_key(released, request.pod, request.name) as key:
        stack = _activate(control, request, layout, key)
    try:
        _verify_key(stack, request.name)
    finally:
        stack.close()
    return True


async def activate_volume(
    control: DmControl, request: VolumeRequest, released: Secret, format_device: FormatDevice
) -> DiskStack:
    """Open or, under the grant, create a volume and mount it; `close` of the result undoes it.

    Args:
        control: device-mapper, open until the result is closed.
        request: which volume.
        released: the 64 bytes from the KBS; the caller wipes them.
        format_device: runs mkfs.ext4 on the given device.

    Raises:
        VerificationError: `volume.key`; `volume.blank`, a blank disk without the grant;
            `volume.unlock`, foreign data, another layout or another key, not told apart;
            `disk.changed`.
        ConfigError: `disk.size`, `disk.read_only`.
        KernelError: the kernel refused a step; everything before it is undone.
        ChildError: mkfs failed; likewise.
    """
    layout = _plan(request)
    is_new = _decide_creation(request, layout)
    with ExitStack() as undo:
        with derive_encryption_key(released, request.pod, request.name) as key:
            stack = _activate(control, request, layout, key)
        undo.callback(stack.close)
        if is_new:
            await create_ext4(stack.node, format_device, journal=True)
        else:
            _verify_key(stack, request.name)
        mount_ext4(stack.node, request.target)
        stack.push(lambda: unmount(request.target))
        undo.pop_all()
        return stack
    raise RuntimeError("an exit stack swallowed an exception")


def _plan(request: VolumeRequest) -> IntegrityLayout:
    disk = request.disk
    if disk.read_only:
        raise ConfigError("disk.read_only", f"{request.name} cannot be written")
    if read_size_bytes(disk.node) != disk.size_bytes:
        raise VerificationError("disk.changed", f"{request.name} has another size than it had")
    return plan_disk_layout(check_size(disk.size_bytes), JOURNAL_BYTES)


def _decide_creation(request: VolumeRequest, layout: IntegrityLayout) -> bool:
    """Return whether the disk is blank and may be formatted; it is a volume if not.

    Raises:
        VerificationError: `volume.blank` or `volume.unlock`.
    """
    start = _read_start(request.disk)
    if not any(start):
        if not request.may_create:
            raise VerificationError("volume.blank", f"{request.name} is blank, without a grant")
        return True
    if start[:SUPERBLOCK_BYTES] != layout.to_superblock():
        raise _locked(request.name)
    return False


def _activate(
    control: DmControl, request: VolumeRequest, layout: IntegrityLayout, key: Secret
) -> DiskStack:
    """Activate; what the kernel says about the *content* of the disk is the one refusal."""
    try:
        return activate_stack(control, request.name, request.disk, layout, key)
    except VerificationError as error:
        raise _locked(request.name) from error
    except KernelError as error:
        if error.reason == "kernel.dm.load" and error.errno in (errno.EINVAL, errno.EIO):
            raise _locked(request.name) from error
        raise


def _verify_key(stack: DiskStack, name: str) -> None:
    """Read what every volume has written first: only its own key authenticates it."""
    try:
        read_direct(stack.node, 0, START_BYTES)
    except KernelError as error:
        raise _locked(name) from error


def _read_start(disk: BlockDevice) -> bytes:
    return read_direct(disk.node, 0, START_BYTES)


def _locked(name: str) -> VerificationError:
    return VerificationError("volume.unlock", f"{name} does not open under this key")
