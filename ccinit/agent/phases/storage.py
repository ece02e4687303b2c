"""UNLOCK: every disk gets its one role, then scratch and volumes are opened and mounted.

1. every disk gets its one role before any is written; one too many or too few ends the boot;
2. volumes with a rollback counter get an anchor before any disk is open: teardown runs in reverse,
   so all disks are closed and their keys gone before the KBS is told;
3. scratch disks are opened, with keys made here; one of them, or else the memory, is the store of
   images and writable layers;
4. volumes are opened, their counters advanced and their keys wiped: from here on only the kernel
   has the keys;
5. volumes in memory are mounted.

Of a file system that the guest made, containers see only one directory, so the guest's own files on
a scratch disk (images, writable layers) are out of their reach.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial

from ccinit.agent.figures import read_memory
from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.debug_tools import TOOLS_DISK, find_tools_disk
from ccinit.agent.phases.memory_store import open_memory_store
from ccinit.agent.phases.rollback import Anchor
from ccinit.agent.phases.volumes import Found, find_volumes, open_volume
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.agent.teardown import undoing
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
from ccinit.kernel.mount import CONFINED, mount, unmount
from ccinit.unlock.filesystem import FormatDevice
from ccinit.unlock.scratch import (
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
        volumes: for each volume of the manifest, the directory that containers may see.
        store: a directory on scratch for images and writable layers; without scratch a tmpfs.
        in_memory: whether `store` is that tmpfs.
        tags_bytes: the memory that the integrity tags of scratch disks take once these are fully
            written.
    """

    volumes: Mapping[str, str]
    store: str
    in_memory: bool = False
    tags_bytes: int = 0


async def unlock(guest: Guest, configured: Configured, attested: Attested) -> Unlocked:
    """Open everything that the manifest declares; see the module's steps.

    Raises:
        VerificationError: `disk.…`, `volume.…`, `integrity.…`.
        ConfigError: `scratch.…`, `store.…`, `disk.…`.
        PeerError, DeadlineError: the KBS does not advance a volume's counter.
        KernelError, ChildError: a step failed; the teardown undoes the earlier ones.
    """
    guest.event(f"disks: {', '.join(map(_describe, configured.disks))}")
    control = DmControl()
    guest.teardown.push("device-mapper", undoing(control.close))
    unlocking = _Unlocking(guest, configured, attested, control)
    found, scratch = await unlocking.assign_roles()
    anchors = unlocking.make_anchors(found)
    tags_bytes = await unlocking.open_scratch(scratch)
    store = unlocking.open_store(scratch)
    await unlocking.open_volumes(found, anchors)
    unlocking.mount_tmpfs()
    return Unlocked(
        volumes={volume.name: _shown(volume) for volume in configured.manifest.volumes},
        store=store,
        in_memory=not scratch,
        tags_bytes=tags_bytes,
    )


def _describe(disk: BlockDevice) -> str:
    """Describe a disk by what can be compared with the manifest, not by the host's name for it."""
    return f"{disk.name} of {disk.size_bytes} bytes{', read-only' if disk.read_only else ''}"


class _Unlocking:
    """The steps, in their order; the teardown undoes each."""

    def __init__(
        self, guest: Guest, configured: Configured, attested: Attested, control: DmControl
    ) -> None:
        self._guest = guest
        self._configured = configured
        self._attested = attested
        self._control = control

    async def assign_roles(self) -> tuple[tuple[Found, ...], ScratchDisks]:
        """Step 1: return the volumes that the owner provides, and the scratch disks."""
        configured = self._configured
        tools = find_tools_disk(configured)
        found = await find_volumes(
            self._guest, self._control, configured, self._attested, apart=tools
        )
        volumes = {one.volume.name: one.disk for one in found}
        if tools is not None:
            volumes[TOOLS_DISK] = tools
        scratch = assign_scratch(
            configured.disks,
            initdata=configured.initdata,
            root=select_held(configured.disks),
            volumes=volumes,
            scratch=select_kind(configured.manifest.volumes, ScratchVolume),
        )
        return found, scratch

    def make_anchors(self, found: tuple[Found, ...]) -> Mapping[str, Anchor]:
        """Step 2: return the anchors of volumes with a rollback counter, by name."""
        anchors = {}
        for one in found:
            volume = one.volume
            if not isinstance(volume, PersistentVolume):
                continue
            anchor = Anchor.of(self._guest, self._configured, self._attested, volume)
            if anchor is not None:
                self._guest.teardown.push(f"counter of volume {volume.name}", anchor.tell_kbs)
                anchors[volume.name] = anchor
        return anchors

    async def open_scratch(self, scratch: ScratchDisks) -> int:
        """Step 3: return the most memory that the integrity tags can take."""
        plans = plan_scratch(scratch)
        verify_memory(plans, read_memory()["MemAvailable"])
        for plan in plans:
            target = _make_with_parent(f"{ROOT}/{plan.volume.name}", 0o711)
            stack = await activate_scratch(self._control, plan, target, _formatter(self._guest))
            self._keep(plan.volume, stack)
        return sum(plan.meta_bytes for plan in plans)

    def open_store(self, scratch: ScratchDisks) -> str:
        """Step 3: return the store's directory, on the first scratch disk if there is one."""
        if not scratch:
            size_bytes = self._configured.config.limits.memory_store_bytes
            return open_memory_store(self._guest, size_bytes)
        first, _disk = scratch[0]
        return _make_with_parent(f"{ROOT}/{first.name}/{_OWN}", 0o711)

    async def open_volumes(self, found: tuple[Found, ...], anchors: Mapping[str, Anchor]) -> None:
        """Step 4."""
        for one in found:
            await self._open_volume(one, anchors.get(one.volume.name))
        for volume in self._configured.manifest.volumes:
            if isinstance(volume, KeyedVolume):
                self._attested.grants[volume.key].secret.wipe()

    async def _open_volume(self, one: Found, anchor: Anchor | None) -> None:
        volume = one.volume
        target = _make_with_parent(f"{ROOT}/{volume.name}", 0o711)
        stack = await open_volume(
            self._control,
            one,
            target,
            _formatter(self._guest),
            may_create=anchor is None or anchor.may_create,
        )
        self._keep(volume, stack, anchor)
        if anchor is not None:
            await anchor.open(_make_with_parent(f"{target}/{_OWN}", 0o711))
            name = f"counter in volume {volume.name}"
            self._guest.teardown.push(name, undoing(anchor.write))

    def mount_tmpfs(self) -> None:
        """Step 5."""
        for volume in select_kind(self._configured.manifest.volumes, TmpfsVolume):
            target = _make_with_parent(f"{ROOT}/{volume.name}", 0o711)
            mount("tmpfs", target, "tmpfs", CONFINED, f"mode=0711,size={volume.size_bytes}")
            self._guest.teardown.push(f"volume {volume.name}", undoing(partial(unmount, target)))
            _make_with_parent(f"{target}/{_SHARED}", 0o777)

    def _keep(self, volume: Volume, stack: DiskStack, anchor: Anchor | None = None) -> None:
        def close() -> None:
            stack.close()
            if anchor is not None:
                anchor.note_closed()

        self._guest.teardown.push(f"volume {volume.name}", undoing(close))
        if not isinstance(volume, MadeElsewhere):
            _make_with_parent(_shown(volume), 0o777)


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


def _shown(volume: Volume) -> str:
    """What containers may see: all of a volume that was made elsewhere, else a directory of it."""
    path = f"{ROOT}/{volume.name}"
    return path if isinstance(volume, MadeElsewhere) else f"{path}/{_SHARED}"


def _make_with_parent(path: str, mode: int) -> str:
    """Make a directory and its parent if missing; one that is on a volume already stays as it is.

    Children with other uids can traverse the parent but not list it.
    """
    make_directory(os.path.dirname(path), 0o711)
    return make_directory(path, mode)
