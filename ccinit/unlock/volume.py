"""Persistent volumes: the owner's data on the host's disk, under a key that the KBS releases.

dm-integrity keeps tags and a journal on the disk itself, so a crash loses nothing that was synced.
The host can still restore an *older* state of the whole disk, which no guest can notice by itself.
No header says how to decrypt: cipher, layout and sizes are constants, and what the kernel finds on
the disk is compared with them before and after it is opened.

A blank disk is formatted only under a grant that came with the key; otherwise a host could replace
the owner's data by a fresh file system. An interrupted creation leaves a disk that is neither blank
nor a volume, and is refused: the host has to offer a blank one again.

A disk that was smaller may still have the superblock for an earlier size that the owner has named.
It is then first opened in that size, so that nothing is changed on a disk that is not the volume or
could not grow; opening it in full makes the kernel write the new size.
"""

import errno
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from enum import Enum

from ccinit.errors import KernelError, VerificationError
from ccinit.formats.disk.ext4 import parse_ext4_superblock
from ccinit.formats.disk.integrity import BLOCK_BYTES, SUPERBLOCK_BYTES
from ccinit.kernel.block import BlockDevice, read_direct
from ccinit.kernel.dm import DmControl
from ccinit.secret import Secret
from ccinit.unlock.disk import check_disk
from ccinit.unlock.filesystem import START_BYTES, FormatDevice, create_ext4, unmount_kept
from ccinit.unlock.growth import mount_volume, verify_can_grow
from ccinit.unlock.integrity import IntegrityLayout, plan_disk_layout
from ccinit.unlock.stack import DiskStack, activate_stack, shortened
from ccinit.unlock.volume_key import derive_encryption_key
from ccinit.values import frozen

JOURNAL_BYTES = 8 << 20
"""Also held in guest memory while the volume is open."""

_WRONG_DISK = ("volume.blank", "volume.unlock")


class DiskContent(Enum):
    """What a disk that is not refused turned out to be."""

    VOLUME = "the volume"
    BLANK = "nothing, and it may become the volume"


@frozen
class VolumeRequest:
    """One persistent volume to open.

    Attributes:
        pod: name of the pod, from which the key is derived, and
        name: name of the volume, likewise.
        may_create: the key came with the grant to format a blank disk.
        former_bytes: sizes that the disk may have had, each smaller than its current size.
    """

    pod: str
    name: str
    disk: BlockDevice
    may_create: bool
    former_bytes: tuple[int, ...] = ()


def select_volume_disk(
    control: DmControl,
    requests: Sequence[VolumeRequest],
    released: Secret,
) -> VolumeRequest:
    """Of requests that differ only in their disks, return the one whose disk is the volume.

    That is the disk which authenticates. Only if there is none, and under the grant, is it a blank
    disk: the first, since they are alike. One that is left over has another role, or is refused as
    a disk without any (`ccinit.boot.disks`).

    Args:
        control: device-mapper.
        requests: one for each disk of the declared size that has no role yet; at least one.
        released: the 64 bytes from the KBS; the caller wipes them.

    Raises:
        VerificationError: `volume.ambiguous`, several authenticate; else the reason why the last
            disk was refused.
        KernelError: the kernel refused a step for a reason other than the disk's content.
    """
    refusals, opened, blank = [], [], []
    for request in requests:
        try:
            if examine_disk(control, request, released) is DiskContent.VOLUME:
                opened.append(request)
            else:
                blank.append(request)
        except VerificationError as error:
            if error.reason not in _WRONG_DISK:
                raise
            refusals.append(error)
    if len(opened) > 1:
        raise VerificationError("volume.ambiguous", f"{len(opened)} disks are {opened[0].name}")
    found = opened or blank
    if not found:
        raise refusals[-1]
    return found[0]


def examine_disk(control: DmControl, request: VolumeRequest, released: Secret) -> DiskContent:
    """Return whether the disk is the volume, which has to open with its key, or is blank.

    Raises:
        VerificationError: it is neither; reasons as for `activate_volume`.
        KernelError: the disk failed, or the kernel refused a step; everything before it is undone.
    """
    check_disk(request.name, request.disk)
    size_bytes = _find_size(request)
    if size_bytes is None:
        return DiskContent.BLANK
    with derive_encryption_key(released, request.pod, request.name) as key:
        _read_authenticated(control, request, size_bytes, key)
    return DiskContent.VOLUME


async def activate_volume(
    control: DmControl,
    request: VolumeRequest,
    released: Secret,
    target: str,
    format_device: FormatDevice,
) -> DiskStack:
    """Open or, under the grant, create a volume and mount it; `close` of the result undoes it.

    Args:
        control: device-mapper, open until the result is closed.
        request: which volume.
        released: the 64 bytes from the KBS; the caller wipes them.
        target: an existing directory to mount it at.
        format_device: runs mkfs.ext4 on the given device.

    Raises:
        VerificationError: `volume.key`; `volume.blank`, a blank disk without the grant;
            `volume.unlock`, foreign data, another layout or another key, which look the same;
            `volume.size`, `volume.growth`, as `plan_growth` has them; `disk.changed`;
            `integrity.…`, the kernel's view is another one.
        FormatError: `ext4.superblock`.
        ConfigError: `disk.size`, `disk.read_only`.
        KernelError: the kernel refused a step; everything before it is undone.
        ChildError: mkfs failed; likewise.
    """
    check_disk(request.name, request.disk)
    size_bytes = _find_size(request)
    with ExitStack() as undo:
        with derive_encryption_key(released, request.pod, request.name) as key:
            if size_bytes in request.former_bytes:
                start = _read_authenticated(control, request, size_bytes, key)
                verify_can_grow(request.name, parse_ext4_superblock(start))
            stack = _activate(control, request.name, request.disk, key)
        undo.callback(stack.close)
        if size_bytes is None:
            await create_ext4(stack.node, format_device, journal=True)
        else:
            _verify_key(stack, request.name)
        former = tuple(_plan(size).provided_bytes // BLOCK_BYTES for size in request.former_bytes)
        await mount_volume(request.name, stack.node, target, former)
        stack.push(lambda: unmount_kept(target))
        undo.pop_all()
    return stack


def _plan(disk_bytes: int) -> IntegrityLayout:
    return plan_disk_layout(disk_bytes, JOURNAL_BYTES)


def _find_size(request: VolumeRequest) -> int | None:
    """Return the size that the disk was formatted for; None if it is blank and may be formatted.

    Raises:
        VerificationError: `volume.blank` or `volume.unlock`.
        ConfigError: `disk.size`.
    """
    start = read_direct(request.disk.node, 0, START_BYTES)
    if not any(start):
        if not request.may_create:
            raise VerificationError(
                "volume.blank",
                f"{request.name} is blank: no grant to make it, or it is counted",
            )
        return None
    for size_bytes in (request.disk.size_bytes, *request.former_bytes):
        if start[:SUPERBLOCK_BYTES] == _plan(size_bytes).to_superblock():
            return size_bytes
    raise _locked(request.name)


def _read_authenticated(
    control: DmControl, request: VolumeRequest, size_bytes: int, key: Secret
) -> bytes:
    """Open the disk in the size that it was formatted for, and read the beginning of the volume.

    Raises:
        VerificationError: `volume.unlock`.
        KernelError: the disk failed, or the kernel refused a step; everything before it is undone.
    """
    whole = request.disk
    shown = (
        nullcontext(whole)
        if size_bytes == whole.size_bytes
        else shortened(control, request.name, whole, size_bytes)
    )
    with shown as disk, closing(_activate(control, request.name, disk, key)) as stack:
        return _verify_key(stack, request.name)


def _activate(control: DmControl, name: str, disk: BlockDevice, key: Secret) -> DiskStack:
    """Activate; everything that the kernel refuses about the disk's *content* is one error.

    An active device that is not as planned is a different error: its table does not depend on a
    key, and its superblock was the planned one a moment before.
    """
    try:
        return activate_stack(control, name, disk, _plan(disk.size_bytes), key)
    except KernelError as error:
        if error.reason == "kernel.dm.load" and error.errno == errno.EINVAL:
            raise _locked(name) from error
        raise


def _verify_key(stack: DiskStack, name: str) -> bytes:
    """Read what was written to every volume first: only the volume's own key authenticates it.

    A disk that fails while it is read may well be the volume. If it counted as another one, a blank
    disk could be made the volume in its place, and the volume itself be used for scratch.
    """
    try:
        return read_direct(stack.node, 0, START_BYTES)
    except KernelError as error:
        if error.errno == errno.EILSEQ:
            raise _locked(name) from error
        raise


def _locked(name: str) -> VerificationError:
    return VerificationError("volume.unlock", f"{name} does not open under this key")
