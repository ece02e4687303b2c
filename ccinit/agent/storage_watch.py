"""Disk faults: an event for each and, if the manifest asks, the guest's end.

Readers and syncing writers get EIO from the kernel. This watch informs the owner, and ends pods
that must not go on with such a disk (`on_storage_error = "stop"`, in the manifest and so measured).
The policy is per pod, not per volume, because the kernel rate-limits its messages over all disks: a
disk that fails all the time could hide the only message about another.

While UNLOCK tells disks apart, a block that does not authenticate is no fault: it was read under a
key that is not its own. A lost write is one even then. The host can keep UNLOCK waiting, for a disk
or for the KBS, until the kernel writes back what is dirty on disks that are open already; and of
some writes that are lost, the kernel says nothing again.
"""

from collections.abc import Callable, Mapping

from ccinit.agent.guest import Guest
from ccinit.errors import CcinitError, VerificationError
from ccinit.formats.planes.host_rpc import Code
from ccinit.formats.pod.manifest import OnStorageError, PodManifest
from ccinit.formats.pod.volume import VolumeKind
from ccinit.kernel.kmsg import KernelRecord
from ccinit.kernel.mapping_names import find_mapping_name, list_mapping_names
from ccinit.unlock.device_name import volume_of
from ccinit.unlock.kernel_faults import DiskFault, FaultKind, parse_disk_fault

WHILE_OPENING = frozenset({FaultKind.LOST_WRITE})
"""The kinds that are faults before all volumes are open, too."""


class StorageWatch:
    """Looks at each record of the kernel's log from UNLOCK on."""

    def __init__(
        self,
        guest: Guest,
        manifest: PodManifest,
        name_of: Callable[[str], str] = find_mapping_name,
        known: Mapping[str, str] | None = None,
        kinds: frozenset[FaultKind] = frozenset(FaultKind),
    ) -> None:
        """Begin with the volumes that are open now.

        Args:
            guest: whose log and end it is.
            manifest: of the pod.
            name_of: maps the kernel's name of a device to its device-mapper name.
            known: these names as they are now; None asks the kernel. A write lost while closing a
                volume is reported only after its device is gone.
            kinds: all others are no faults.
        """
        self._guest = guest
        self._manifest = manifest
        self._name_of = name_of
        self._known = list_mapping_names() if known is None else known
        self._kinds = kinds

    def examine(self, record: KernelRecord) -> None:
        """Examine one record."""
        if record.dropped and self._manifest.on_storage_error is OnStorageError.STOP:
            # One of the lost records could have reported a fault.
            self._report(VerificationError("disk.log_gap", f"{record.dropped} records are lost"))
        fault = parse_disk_fault(record.text)
        if fault is not None and fault.kind in self._kinds:
            self._report(self._describe(fault, record.text))

    def _describe(self, fault: DiskFault, text: bytes) -> CcinitError:
        name = self._name_of(fault.device)
        if name == fault.device:
            name = self._known.get(name, name)
        volume = volume_of(name)
        kinds = {one.name: one.kind for one in self._manifest.volumes}
        where = "disk"
        if volume is not None and volume in kinds:
            where = "scratch" if kinds[volume] is VolumeKind.SCRATCH else "volume"
        line = text.partition(b"\n")[0].decode("ascii", "replace")
        return VerificationError(f"{where}.{fault.kind}", f"{volume or name}: {line}")

    def _report(self, error: CcinitError) -> None:
        self._guest.event(str(error))
        if self._manifest.on_storage_error is OnStorageError.STOP:
            self._guest.give_up(error, Code.STORAGE)
