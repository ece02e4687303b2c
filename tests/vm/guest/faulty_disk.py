"""A disk that fails on demand: device-mapper between what is under test and the host's disk.

`FaultyDisk` looks like one disk; its table can be changed at any time, under a mounted file system
too, so that a fault really happens in the kernel's block layer.
"""

from pathlib import Path
from typing import Self

from ccinit.kernel.block import SECTOR_BYTES, BlockDevice
from ccinit.kernel.dm import DmControl, DmTarget

MIB = 1 << 20


class FaultyDisk:
    """The first bytes of a disk as a disk of their own; a context manager that removes it."""

    def __init__(self, below: BlockDevice, size_bytes: int, name: str = "test-faulty") -> None:
        self.below = below
        self.size_bytes = size_bytes
        self._control = DmControl()
        self._device = self._control.create(name)
        self.work()

    @property
    def disk(self) -> BlockDevice:
        """As the disks of the guest are listed."""
        return BlockDevice(
            name=f"dm-{self._device.minor}",
            number=Path(f"/sys/block/dm-{self._device.minor}/dev").read_text().strip(),
            size_bytes=self.size_bytes,
            read_only=False,
            serial="",
            holders=(),
        )

    def work(self) -> None:
        """Work as the disk below does."""
        self._load("linear", f"{self.below.node} 0", self.size_bytes)

    def fail(self) -> None:
        """Answer every read and write with EIO, as an unplugged disk does."""
        self._load("error", "", self.size_bytes)

    def fail_behind(self, start_bytes: int) -> None:
        """Answer whatever lies behind the first bytes with EIO."""
        start = self._target("linear", f"{self.below.node} 0", start_bytes)
        rest = self._target("error", "", self.size_bytes - start_bytes, start_bytes)
        self._load_all(start, rest)

    def fail_writes(self) -> None:
        """Answer every write with EIO; reads work."""
        self._load("flakey", f"{self.below.node} 0 0 3600 1 error_writes", self.size_bytes)

    def shrink(self, size_bytes: int) -> None:
        """Become a smaller disk."""
        self._load("linear", f"{self.below.node} 0", size_bytes)

    def become(self, size_bytes: int) -> None:
        """Become a disk of another size, and be listed as one."""
        self.size_bytes = size_bytes
        self.work()

    def log_writes(self, log: BlockDevice) -> None:
        """From now on write every write, flush and mark to `log` too."""
        self._load("log-writes", f"{self.below.node} {log.node}", self.size_bytes)

    def mark(self, text: str) -> None:
        """Put a mark into the log."""
        self._control.send_message(self._device, f"mark {text}")

    def _load(self, kind: str, parameters: str, size_bytes: int) -> None:
        self._load_all(self._target(kind, parameters, size_bytes))

    def _load_all(self, *targets: DmTarget) -> None:
        self._control.load(self._device, targets)
        self._control.resume(self._device)

    @staticmethod
    def _target(kind: str, parameters: str, size_bytes: int, start_bytes: int = 0) -> DmTarget:
        return DmTarget(
            start_sectors=start_bytes // SECTOR_BYTES,
            length_sectors=size_bytes // SECTOR_BYTES,
            kind=kind,
            parameters=parameters,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._control:
            self._control.remove(self._device)
