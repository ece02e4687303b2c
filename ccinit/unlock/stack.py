"""Activating dm-crypt, usually over dm-integrity, and taking it down: common to all disks.

The undoing of each step is registered as soon as the step is done, so a failure half-way leaves
nothing behind, and an error while undoing is not hidden. `close` works in this order: wait until
nothing is left of the file system, suspend I/O and wipe the kernel's copy of the key, remove
dm-crypt, remove dm-integrity.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ccinit.errors import VerificationError
from ccinit.kernel.block import SECTOR_BYTES, BlockDevice
from ccinit.kernel.claimed_device import wait_until_unclaimed
from ccinit.kernel.dm import DmControl, DmDevice, DmTarget
from ccinit.kernel.keyring import add_logon_key, remove_key
from ccinit.kernel.libc import kernel_error
from ccinit.secret import Secret
from ccinit.unlock.device_name import name_device, name_former, name_integrity
from ccinit.unlock.integrity import IntegrityLayout, verify_active
from ccinit.unlock.profile import AEAD, CRYPT, plan_aead_target, plan_crypt_target
from ccinit.values import frozen, replace

_KEY_WIPE = "key wipe"


@frozen
class DiskStack:
    """An active device; `close` undoes it, once.

    Attributes:
        node: the plaintext device.
    """

    node: str
    undo: ExitStack

    def push(self, step: Callable[[], None]) -> None:
        """Register a step that `close` takes before the earlier ones."""
        self.undo.callback(step)

    def close(self) -> None:
        """Undo in reverse; calling it again does nothing.

        Raises:
            KernelError: a step failed; the others were taken nevertheless.
        """
        self.undo.close()


def activate_stack(
    control: DmControl, name: str, disk: BlockDevice, layout: IntegrityLayout, key: Secret
) -> DiskStack:
    """Activate both devices over `disk` and verify that they are as planned.

    The control node must stay open until the stack is closed.

    Args:
        control: device-mapper.
        name: unique among active stacks.
        disk: the host's disk.
        layout: from `plan_memory_layout` or `plan_disk_layout`.
        key: 96 bytes; the caller wipes it, the kernel's copy lives until `close`.

    Raises:
        KernelError: the kernel refused a step; everything before it is undone.
        VerificationError: `integrity.…`, the kernel's view differs.
    """
    if len(key) != AEAD.key_bytes:
        raise RuntimeError(f"a disk key of {len(key)} bytes")
    with ExitStack() as undo:
        integrity = _create(control, name_integrity(name), undo)
        _start(control, integrity, layout.to_target(disk.node))
        (table,) = control.read_table(integrity)
        (status,) = control.read_status(integrity)
        verify_active(layout, disk.number, table, status)
        target = plan_aead_target(layout.provided_bytes, integrity.node, _describe(name))
        crypt = _start_crypt(control, name, target, key, undo)
        kept = undo.pop_all()
    return DiskStack(node=crypt.node, undo=kept)


@contextmanager
def shortened(
    control: DmControl, name: str, disk: BlockDevice, size_bytes: int
) -> Iterator[BlockDevice]:
    """Present the beginning of a disk as a disk of its own.

    Raises:
        KernelError: the kernel refused a step; everything before it is undone.
    """
    with ExitStack() as undo:
        device = _create(control, name_former(name), undo)
        target = DmTarget(
            length_sectors=size_bytes // SECTOR_BYTES, kind="linear", parameters=f"{disk.node} 0"
        )
        _start(control, device, target)
        number = _read_number(device.node)
        yield replace(
            disk,
            name=f"dm-{device.minor}",
            number=f"{os.major(number)}:{os.minor(number)}",
            size_bytes=size_bytes,
        )


def _read_number(node: str) -> int:
    try:
        return os.stat(node).st_rdev  # no pathlib in the guest
    except OSError as error:
        raise kernel_error(error, "stat", node) from error


def activate_crypt(
    control: DmControl, name: str, disk: BlockDevice, key: Secret, *, start_bytes: int = 0
) -> DiskStack:
    """Activate dm-crypt without integrity over `disk` from `start_bytes` on; 64 bytes of key.

    Otherwise as `activate_stack`, with the reason `crypt.table`.
    """
    if len(key) != CRYPT.key_bytes:
        raise RuntimeError(f"a disk key of {len(key)} bytes")
    size, key_name = disk.size_bytes, _describe(name)
    with ExitStack() as undo:
        target = plan_crypt_target(size, disk.node, key_name, start_bytes=start_bytes)
        crypt = _start_crypt(control, name, target, key, undo)
        (table,) = control.read_table(crypt)
        if table != plan_crypt_target(size, disk.number, key_name, start_bytes=start_bytes):
            raise VerificationError("crypt.table", f"the active table is {table!r}"[:500])
        kept = undo.pop_all()
    return DiskStack(node=crypt.node, undo=kept)


def _describe(name: str) -> str:
    """Return the key's description for loading the table; it needs a prefix with a colon."""
    return f"ccinit:{name}"


def _start_crypt(
    control: DmControl, name: str, target: DmTarget, key: Secret, undo: ExitStack
) -> DmDevice:
    crypt = _create(control, name_device(name), undo)
    undo.callback(_wipe_key, control, crypt)
    undo.callback(wait_until_unclaimed, crypt.node)
    with ExitStack() as unlink:
        unlink.callback(remove_key, add_logon_key(_describe(name), key))
        _start(control, crypt, target)
    return crypt


def _create(control: DmControl, name: str, undo: ExitStack) -> DmDevice:
    device = control.create(name)
    undo.callback(control.remove, device)
    return device


def _start(control: DmControl, device: DmDevice, target: DmTarget) -> None:
    control.load(device, (target,), secure=True)
    control.resume(device)


def _wipe_key(control: DmControl, crypt: DmDevice) -> None:
    if not control.read_table(crypt):
        return  # no table was ever loaded, so there is no key
    control.suspend(crypt)
    control.send_message(crypt, _KEY_WIPE)
