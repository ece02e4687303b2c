"""Volumes that the owner provides: find the disk of each, and open it.

A disk is a volume only if its content proves it: the root of its hash tree, blocks that
authenticate under the owner's key, or a valid LUKS2 header that opens with that key. The header of
a LUKS2 volume is read exactly once, here, and parsed by a child; `open_volume` uses the key that
the child returns.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import undoing
from ccinit.annotations import TypeAlias
from ccinit.boot.disks import select_candidates, select_held
from ccinit.errors import FormatError, VerificationError
from ccinit.formats.pod.volume import (
    KeyedVolume,
    Luks2Volume,
    PersistentVolume,
    VerityVolume,
    select_kind,
)
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.dm import DmControl
from ccinit.kernel.memory_file import open_memory_file
from ccinit.kernel.pipes import open_pipes
from ccinit.secret import Secret
from ccinit.unlock.filesystem import FormatDevice
from ccinit.unlock.luks2 import (
    HEADER_FD,
    RELEASED_PIPE,
    VOLUME_KEY_FD,
    Luks2Reply,
    Luks2Request,
    activate_luks2,
    copy_header,
    receive_volume_key,
)
from ccinit.unlock.stack import DiskStack
from ccinit.unlock.verity_volume import activate_verity, select_verity_disk
from ccinit.unlock.volume import VolumeRequest, activate_volume, select_volume_disk
from ccinit.values import frozen, replace

_HEADER_SECONDS = 300.0


@frozen
class FoundVerityVolume:
    """A volume under a root hash, and its disk."""

    volume: VerityVolume
    disk: BlockDevice


@frozen
class FoundPersistentVolume:
    """A volume in the guest's own format.

    Attributes:
        request: what found its disk, and opens it.
        released: its key's bytes from the KBS.
    """

    volume: PersistentVolume
    request: VolumeRequest
    released: Secret

    @property
    def disk(self) -> BlockDevice:
        """Its disk."""
        return self.request.disk


@frozen
class FoundLuks2Volume:
    """A LUKS2 volume, its disk, and the volume key from its header."""

    volume: Luks2Volume
    disk: BlockDevice
    key: Secret


Found: TypeAlias = FoundVerityVolume | FoundPersistentVolume | FoundLuks2Volume


async def find_volumes(
    guest: Guest,
    control: DmControl,
    configured: Configured,
    attested: Attested,
    *,
    apart: BlockDevice | None = None,
) -> tuple[Found, ...]:
    """Find the disks of all verity and persistent volumes, in this order.

    Args:
        guest: whose children read headers.
        control: device-mapper.
        configured: what to find, and where.
        attested: keys.
        apart: a disk that is not to be considered.

    Raises:
        VerificationError: `volume.…`, `verity.root`, `luks2.…`: no disk is this volume, or two are.
        FormatError: `luks2.…`, likewise.
        KernelError, ChildError: a step failed.
    """
    taken: list[BlockDevice | None] = [configured.initdata, select_held(configured.disks), apart]
    volumes = configured.manifest.volumes
    keyed = [volume for volume in volumes if isinstance(volume, KeyedVolume)]
    found: list[Found] = []
    for volume in (*select_kind(volumes, VerityVolume), *keyed):
        disks = select_candidates(configured.disks, taken, volume.name, volume.size_bytes)
        one = await _find(guest, control, configured, attested, volume, disks)
        taken.append(one.disk)
        found.append(one)
    return tuple(found)


async def _find(
    guest: Guest,
    control: DmControl,
    configured: Configured,
    attested: Attested,
    volume: VerityVolume | KeyedVolume,
    disks: tuple[BlockDevice, ...],
) -> Found:
    if isinstance(volume, VerityVolume):
        disk = select_verity_disk(volume.name, disks, volume.verity)
        return FoundVerityVolume(volume=volume, disk=disk)
    grant, pod = attested.grants[volume.key], configured.manifest.name
    if isinstance(volume, PersistentVolume):
        requests = [
            VolumeRequest(
                pod=pod,
                name=volume.name,
                disk=disk,
                may_create=grant.create,
                former_bytes=volume.grown_from_bytes,
            )
            for disk in disks
        ]
        chosen = select_volume_disk(control, requests, grant.secret)
        return FoundPersistentVolume(volume=volume, request=chosen, released=grant.secret)
    request = Luks2Request(pod=pod, name=volume.name, sealed=volume.is_sealed)
    disk, key = await find_luks2_disk(guest.children, request, disks, grant.secret)
    guest.teardown.push(f"key of volume {volume.name}", undoing(key.wipe))
    return FoundLuks2Volume(volume=volume, disk=disk, key=key)


async def open_volume(
    control: DmControl,
    found: Found,
    target: str,
    format_device: FormatDevice,
    *,
    may_create: bool,
) -> DiskStack:
    """Open a volume that was found and mount it at `target`.

    Without `may_create` a blank disk is refused, whatever the grant of its key says.

    Raises:
        VerificationError: `volume.…`, `crypt.table`.
        KernelError, ChildError: a step failed; everything before it is undone.
    """
    match found:
        case FoundVerityVolume(volume=volume):
            return activate_verity(control, volume.name, found.disk, volume.verity, target)
        case FoundPersistentVolume(request=request, released=released):
            if not may_create:
                request = replace(request, may_create=False)
            return await activate_volume(control, request, released, target, format_device)
        case FoundLuks2Volume(volume=volume):
            with found.key as key:
                return activate_luks2(control, volume.name, found.disk, key, target)


async def find_luks2_disk(
    children: Children, request: Luks2Request, disks: Sequence[BlockDevice], released: Secret
) -> tuple[BlockDevice, Secret]:
    """Of at least one disk return the only one that opens, and its key, which the caller wipes.

    Raises:
        VerificationError, FormatError: `volume.ambiguous`; otherwise the reason why the last disk
            is not the volume, `luks2.…`.
        ChildError, DeadlineError: the child did not survive a header, or was late.
        KernelError: a disk could not be read, or there are no free descriptors.
    """
    refusals = []
    opened: list[tuple[BlockDevice, Secret]] = []
    with ExitStack() as undo:
        for disk in disks:
            try:
                key = await _open_header(children, request, disk, released)
            except (VerificationError, FormatError) as error:
                refusals.append(error)
            else:
                undo.callback(key.wipe)
                opened.append((disk, key))
        if len(opened) > 1:
            raise VerificationError("volume.ambiguous", f"{len(opened)} disks are {request.name}")
        if not opened:
            raise refusals[-1]
        undo.pop_all()
    return opened[0]


async def _open_header(
    children: Children, request: Luks2Request, disk: BlockDevice, released: Secret
) -> Secret:
    copy = copy_header(request.name, disk)
    with ExitStack() as stack:
        header = open_memory_file(HEADER_FD, copy)
        stack.callback(os.close, header)
        (pipe,) = open_pipes(1)
        stack.callback(pipe.close)
        fds = {HEADER_FD: header, VOLUME_KEY_FD: pipe.writer}
        await children.run(
            Role.LUKS2,
            request,
            Luks2Reply,
            seconds=_HEADER_SECONDS,
            fds=fds,
            secrets={RELEASED_PIPE: released},
        )
        return receive_volume_key(pipe.reader)
