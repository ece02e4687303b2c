"""What the host does to the test guest's disks while it runs, on the guest's own word.

A line of JSON comes from the guest through a virtio port, `{"do": NAME, …}`; the host does it and
answers with one line. So a test says what happens and when, and the host does it from outside:
in the disk's server, or in QEMU.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from host_runtime.machine.qmp import QmpClient
from tests.vm.harness.guest_disks import HOSTILE, RESIZED, UNPLUGGED
from tests.vm.harness.hostile_disk import EIO, ENOSPC, READ, WRITE, DiskServer, Fault, HostileDisk

PORT_NAME = "ccinit.host"
_START_SECONDS = 60.0
_ERRORS = "werror=report,rerror=report"  # QEMU would stop the machine for a full disk


def _within(start: int, length: int, offset: int, asked: int) -> bool:
    return offset < start + length and start < offset + asked


def fail_reads(start: int, length: int) -> Fault:
    """Answer reads of this range with EIO."""
    return lambda _disk, kind, offset, asked: (
        EIO if kind == READ and _within(start, length, offset, asked) else None
    )


def fail_writes(start: int, length: int) -> Fault:
    """Answer writes to this range with EIO."""
    return lambda _disk, kind, offset, asked: (
        EIO if kind == WRITE and _within(start, length, offset, asked) else None
    )


def be_full(start: int, length: int) -> Fault:
    """Answer writes to this range with ENOSPC."""
    return lambda _disk, kind, offset, asked: (
        ENOSPC if kind == WRITE and _within(start, length, offset, asked) else None
    )


def alternate(start: int, length: int) -> Fault:
    """Answer two of three reads of this range, the first one not, from the copy.

    Two in a row: dm-crypt reads what does not authenticate once more before it says so.
    """
    turn = 0

    def fault(disk: HostileDisk, kind: int, offset: int, asked: int) -> bytes | None:
        nonlocal turn
        if kind != READ or not _within(start, length, offset, asked):
            return None
        turn += 1
        return None if turn % 3 == 1 else disk.old[offset : offset + asked]

    return fault


def ignore_writes(start: int, length: int) -> Fault:
    """Acknowledge writes to this range and do nothing."""
    return lambda _disk, kind, offset, asked: (
        b"" if kind == WRITE and _within(start, length, offset, asked) else None
    )


FAULTS: Mapping[str, Callable[[int, int], Fault]] = {
    "fail_reads": fail_reads,
    "fail_writes": fail_writes,
    "be_full": be_full,
    "alternate": alternate,
    "ignore_writes": ignore_writes,
}


class HostileHost:
    """Carries out what the guest asks for."""

    def __init__(self, disk: HostileDisk, monitor: Path) -> None:
        self._disk = disk
        self._monitor = monitor

    def do(self, wish: dict[str, object]) -> object:
        """Do one thing; return what the guest is told."""
        name = str(wish.pop("do"))
        if name in FAULTS:
            self._disk.hits = 0
            self._disk.fault = FAULTS[name](*self._range(wish))
            return None
        action: Callable[..., object] = getattr(self, f"do_{name}")
        return action(**wish)

    def do_heal(self) -> int:
        """Work as a disk should; return how many requests were answered otherwise."""
        self._disk.fault = None
        return self._disk.hits

    def do_copy(self) -> None:
        """Keep a copy of the whole disk."""
        self._disk.old = self._disk.content[:]

    def do_put_back(self, offset: int, length: int) -> None:
        """Put back what was there when the copy was taken."""
        self._disk.content[offset : offset + length] = self._disk.old[offset : offset + length]

    def do_flip(self, start: int, step: int) -> None:
        """Change one bit every so many bytes."""
        for offset in range(start, self._disk.size_bytes, step):
            self._disk.content[offset] ^= 1

    def do_resize(self, disk: str, size: int) -> None:
        """Make a disk of QEMU's another size."""
        self._tell("block_resize", device=disk, size=size)

    def do_unplug(self, disk: str) -> None:
        """Take a disk out of the running machine."""
        self._tell("device_del", id=f"{disk}-device")

    def _tell(self, command: str, **arguments: object) -> None:
        with QmpClient(self._monitor, self._monitor.with_suffix(".events")) as monitor:
            monitor.execute(command, **arguments)

    def _range(self, wish: Mapping[str, object]) -> tuple[int, int]:
        start, length = wish.get("offset", 0), wish.get("length", self._disk.size_bytes)
        assert isinstance(start, int)
        assert isinstance(length, int)
        return start, length


def host_arguments(work: Path) -> tuple[str, ...]:
    """Return QEMU's arguments for the hostile disks, the port and the monitor."""
    return (
        *("-qmp", f"unix:{work}/monitor,server=on,wait=off"),
        *("-chardev", f"socket,id=host,path={work}/host,server=on,wait=off"),
        *("-device", f"virtserialport,chardev=host,name={PORT_NAME}"),
        "-blockdev",
        f"driver=nbd,node-name={HOSTILE.serial},server.type=unix,server.path={work}/nbd",
        *_device(HOSTILE.serial),
        *_image(work, RESIZED.serial),
        *_device(RESIZED.serial),
        # A disk on the root bus could not be taken out.
        *("-device", "pcie-root-port,id=port1,chassis=1"),
        *_image(work, UNPLUGGED.serial),
        *_device(UNPLUGGED.serial, ",bus=port1"),
    )


def _image(work: Path, name: str) -> tuple[str, str]:
    return "-drive", f"if=none,id={name},file={work}/{name}.disk,format=raw,cache=unsafe"


def _device(name: str, place: str = "") -> tuple[str, str]:
    return "-device", f"virtio-blk-pci,id={name}-device,drive={name},serial={name},{_ERRORS}{place}"


@contextmanager
def hostile_host(work: Path) -> Iterator[None]:
    """Serve the disk before QEMU starts; take wishes once it has, until it ends."""
    disk = HostileDisk(HOSTILE.size_bytes)
    host = HostileHost(disk, work / "monitor")
    with DiskServer(disk, work / "nbd"):
        thread = threading.Thread(target=_take_wishes, args=(host, work / "host"), daemon=True)
        thread.start()
        yield
        thread.join(10)


def _take_wishes(host: HostileHost, path: Path) -> None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            connection.connect(str(path))
            break
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
    with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
        for line in stream:
            try:
                answer: object = {"done": host.do(json.loads(line))}
            except Exception as error:  # noqa: BLE001  # the test fails where it asked
                answer = {"failed": repr(error)}
            stream.write(json.dumps(answer).encode() + b"\n")
            stream.flush()
