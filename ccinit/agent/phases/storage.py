"""UNLOCK: every disk gets its one role, then scratch and volumes are opened and mounted.

Roles first, for all disks, before any disk is written: a disk too many or too few ends the boot.
A file system that the guest made shows containers one directory of itself, so that the guest's own
files on a scratch disk (images, writable layers) are out of their reach.
"""

import os
from collections.abc import Mapping, Sequence

from ccinit.agent.figures import read_memory
from ccinit.agent.guest import Guest, undoing
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.debug_tools import ROLE as TOOLS_ROLE
from ccinit.agent.phases.debug_tools import find_tools_disk
from ccinit.agent.phases.memory_store import open_memory_store
from ccinit.agent.phases.rollback import Anchor
from ccinit.agent.phases.volumes import Found, find_volumes, open_volume
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.boot.directories import make_directory
from ccinit.boot.disks import assign_scratch, select_held
from ccinit.errors import ChildError
from ccinit.formats.pod.volume import (
    KeyedVolume,
    MadeElsewhere,
    PersistentVolume,
    ScratchVolume,
    TmpfsVolume,
    Volume,
    select_kind,
)
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.dm import DmControl
from ccinit.kernel.libc import kernel_error
from ccinit.kernel.mount import CONFINED, mount
from ccinit.unlock.filesystem import FormatDevice, unmount
from ccinit.unlock.scratch import (
    ScratchRequest,
    activate_scratch,
    plan_scratch,
    verify_memory,
)
from ccinit.unlock.stack import DiskStack
from ccinit.values import frozen

ROOT = "/run/ccinit/volumes"
_SHARED = "volume"  # what containers see of a file system
_OWN = "ccinit"  # what they do not
_FORMAT_SECONDS = 300.0

ScratchDisks = Sequence[tuple[ScratchVolume, BlockDevice]]


@frozen
class Unlocked:
    """Mounted storage.

    Attributes:
        volumes: for each volume of the manifest the directory that containers may be shown.
        store: a directory on scratch for images and writable layers; without scratch a tmpfs.
        in_memory: whether it is that.
        tags_bytes: the memory that tags of scratch disks take once all of those was written.
    """

    volumes: Mapping[str, str]
    store: str
    in_memory: bool = False
    tags_bytes: int = 0


async def unlock(guest: Guest, configured: Configured, attested: Attested) -> Unlocked:
    """Open everything that the manifest declares.

    Raises:
        VerificationError: `disk.…`, `volume.…`, `integrity.…`.
        ConfigError: `scratch.…`, `store.…`, `disk.…`.
        PeerError, DeadlineError: the KBS does not advance a volume's counter.
        KernelError, ChildError: a step failed; the teardown undoes those before.
    """
    manifest = configured.manifest
    guest.event(f"disks: {', '.join(map(_describe, configured.disks))}")
    control = DmControl()
    guest.teardown.push("device-mapper", undoing(control.close))
    tools = find_tools_disk(configured)
    found = await find_volumes(guest, control, configured, attested, apart=tools)
    volumes = {one.volume.name: one.disk for one in found}
    if tools is not None:
        volumes[TOOLS_ROLE] = tools
    scratch = assign_scratch(
        configured.disks,
        initdata=configured.initdata,
        root=select_held(configured.disks),
        volumes=volumes,
        scratch=select_kind(manifest.volumes, ScratchVolume),
    )
    anchors = _make_anchors(guest, configured, attested, found)
    tags_bytes = await _open_scratch(guest, control, configured, scratch)
    store = _open_store(guest, configured, scratch)
    for one in found:
        anchor = anchors.get(one.volume.name)
        await _open_found(guest, control, configured, attested, one, anchor)
    for volume in manifest.volumes:
        if isinstance(volume, KeyedVolume):
            attested.volume_grant(volume).secret.wipe()  # from here on the kernel alone has it
    for tmpfs in select_kind(manifest.volumes, TmpfsVolume):
        _mount_tmpfs(guest, tmpfs)
    return Unlocked(
        volumes={volume.name: _shown(volume) for volume in manifest.volumes},
        store=store,
        in_memory=not scratch,
        tags_bytes=tags_bytes,
    )


def _describe(disk: BlockDevice) -> str:
    """Say what a manifest can be compared with, not what the host calls it."""
    return f"{disk.name} of {disk.size_bytes} bytes{', read-only' if disk.read_only else ''}"


async def _open_scratch(
    guest: Guest, control: DmControl, configured: Configured, scratch: ScratchDisks
) -> int:
    """Open the scratch disks; return the most memory that their tags will take."""
    requests = [
        ScratchRequest(
            name=volume.name,
            disk=disk,
            target=_make_directory(f"{ROOT}/{volume.name}", 0o711),
            profile=volume.profile,
        )
        for volume, disk in scratch
    ]
    budget = configured.config.limits.scratch_tags_bytes
    plans = plan_scratch(requests, budget_bytes=budget)
    verify_memory(plans, read_memory()["MemAvailable"])
    for plan in plans:
        stack = await activate_scratch(control, plan, _formatter(guest))
        _keep(guest, configured.manifest.volume(plan.name), stack)
    return sum(plan.meta_bytes for plan in plans)


def _open_store(guest: Guest, configured: Configured, scratch: ScratchDisks) -> str:
    """Return the directory for images and writable layers: on the first scratch disk, if any."""
    if not scratch:
        return open_memory_store(guest, configured.config.limits.memory_store_bytes)
    first, _disk = scratch[0]
    return _make_directory(f"{ROOT}/{first.name}/{_OWN}", 0o711)


def _make_anchors(
    guest: Guest, configured: Configured, attested: Attested, found: tuple[Found, ...]
) -> Mapping[str, Anchor]:
    """Make the anchors of volumes that shall have one, by name.

    Before any disk is opened, so that on the way down no key waits for the KBS to be told.
    """
    anchors = {}
    for one in found:
        volume = one.volume
        if not isinstance(volume, PersistentVolume):
            continue
        anchor = Anchor.of(guest, configured, attested, volume)
        if anchor is not None:
            guest.teardown.push(f"counter of volume {volume.name}", anchor.tell)
            anchors[volume.name] = anchor
    return anchors


async def _open_found(
    guest: Guest,
    control: DmControl,
    configured: Configured,
    attested: Attested,
    one: Found,
    anchor: Anchor | None,
) -> None:
    volume, pod = one.volume, configured.manifest.name
    target = _make_directory(f"{ROOT}/{volume.name}", 0o711)
    may_create = anchor is None or anchor.may_create
    stack = await open_volume(
        control, one, pod, attested, target, _formatter(guest), may_create=may_create
    )
    _keep(guest, volume, stack, anchor)
    if anchor is not None:
        await anchor.open(_make_directory(f"{target}/{_OWN}", 0o711))
        guest.teardown.push(f"counter in volume {volume.name}", undoing(anchor.write))


def _formatter(guest: Guest) -> FormatDevice:
    async def format_device(node: str, arguments: tuple[str, ...]) -> None:
        _give(node, RIGHTS[Role.FORMAT].uid)
        try:
            end = await guest.children.run_program(
                Role.FORMAT, arguments, seconds=_FORMAT_SECONDS, workspace=node
            )
        finally:
            _give(node, 0)
        if not end.status.is_success():
            raise ChildError("unlock.mkfs", f"{end.status}: {end.output}")

    return format_device


def _give(node: str, uid: int) -> None:
    try:
        os.chown(node, uid, uid)
    except OSError as error:
        raise kernel_error(error, "chown", node) from error


def _keep(guest: Guest, volume: Volume, stack: DiskStack, anchor: Anchor | None = None) -> None:
    def close() -> None:
        stack.close()
        if anchor is not None:
            anchor.closed()

    guest.teardown.push(f"volume {volume.name}", undoing(close))
    if not isinstance(volume, MadeElsewhere):
        _make_directory(_shown(volume), 0o777)


def _shown(volume: Volume) -> str:
    """What containers may see: all of a volume that was made elsewhere, else a directory of it."""
    path = f"{ROOT}/{volume.name}"
    return path if isinstance(volume, MadeElsewhere) else f"{path}/{_SHARED}"


def _mount_tmpfs(guest: Guest, volume: TmpfsVolume) -> None:
    target = _make_directory(f"{ROOT}/{volume.name}", 0o711)
    mount("tmpfs", target, "tmpfs", CONFINED, f"mode=0711,size={volume.size_bytes}")
    guest.teardown.push(f"volume {volume.name}", undoing(lambda: unmount(target)))
    _make_directory(f"{target}/{_SHARED}", 0o777)


def _make_directory(path: str, mode: int) -> str:
    """Make a directory with its parents if it is not there; a volume's stays as it was.

    Children of other users pass through the parents, which show them nothing.
    """
    if not os.path.isdir(path):
        make_directory(os.path.dirname(path), 0o711)
        make_directory(path, mode)
    return path
