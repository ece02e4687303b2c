"""A running guest: how to connect to it, its hello, and how it ends.

`host_runtime.launch.launcher` makes it, and ends whatever is left of it. Calls to its host plane
are in `host_runtime.plane.rpc_client`.
"""

import math
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ccinit.errors import ChildError, DeadlineError, PeerError
from ccinit.formats.planes.host_rpc import PORT
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.machine.qmp import QmpClient, QmpEvent
from host_runtime.plane.rpc_client import GuestClient, Hello
from host_runtime.plane.transport import VsockLink
from host_runtime.programs.process import OwnedProcess

_RETRY_SECONDS: Final = 0.1
_CONNECT_SECONDS: Final = 5.0
_QUIT_SECONDS: Final = 5.0
_LISTEN_SECONDS: Final = 5.0  # of each wait; logs are bounded between two of them
_DEVICE_END_SECONDS: Final = 2.0  # of a QEMU whose vsock device has ended, perhaps with it
_END_SECONDS: Final = 60.0  # from QEMU's last event to its end: it closes its disks

VSOCK_DEVICE: Final = "the vsock device"
"""Name of the helper without which nobody reaches a guest, where the device is a process."""

Progress = Callable[[str], None]
"""Gets a line of text about each thing that happens to a guest."""


class EndReason(StrEnum):
    """How a guest ended, as QEMU reports it."""

    RESET = "guest-reset"
    SHUTDOWN = "guest-shutdown"
    PANIC = "guest-panic"
    QUIT = "host-qmp-quit"
    SIGNAL = "host-signal"
    CRASHED = "crashed"  # QEMU ended without saying why
    GIVEN_UP = "internal-error"  # KVM cannot go on; QEMU pauses and never ends by itself
    OTHER = "other"


class Guest:
    """A running guest; made by `boot_guest`.

    Attributes:
        qmp: the machine protocol, for fault injection and inspection.
    """

    def __init__(
        self,
        *,
        files: GuestFiles,
        qemu: OwnedProcess,
        qmp: QmpClient,
        link: VsockLink,
        progress: Progress,
        helpers: Mapping[str, OwnedProcess] = MappingProxyType({}),
    ) -> None:
        """Args: helpers: what runs for this guest beside QEMU, by name; they get no successor."""
        self.files = files
        self.link = link
        self.started_at = time.monotonic()
        self._qemu = qemu
        self._programs = (qemu, *helpers.values())
        self._helpers = dict(helpers)
        self._device = helpers.get(VSOCK_DEVICE)
        self.qmp = qmp
        self._end: EndReason | None = None
        self._say = progress
        self._failed_disks: set[str] = set()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._qemu.pid

    def connect(self, port: int, seconds: float = _CONNECT_SECONDS) -> socket.socket:
        """Return a stream to the guest's vsock `port`; see `VsockLink.connect`."""
        return self.link.connect(port, seconds)

    def client(self) -> GuestClient:
        """Return a client of the guest's host plane; the caller closes it."""
        return GuestClient(lambda: self.connect(PORT))

    def wait_for_port(self, port: int, seconds: float) -> socket.socket:
        """Return a stream to `port` as soon as the guest listens there.

        Raises:
            ChildError: `guest.ended`: the guest ended first; `guest.crashed`: QEMU did;
                `process.ended`: the vsock device did.
            DeadlineError: `guest.port`: nothing listened within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineError("guest.port", f"nothing on vsock port {port} in {seconds:g} s")
            try:
                return self.connect(port, min(left, _CONNECT_SECONDS))
            except (PeerError, DeadlineError):
                self._require_running()
                self._require_device()
                self._listen_to_qemu(_RETRY_SECONDS)

    def wait_for_hello(self, seconds: float) -> Hello:
        """Return the guest's hello as soon as its host plane is up.

        Raises:
            ChildError, DeadlineError: as `wait_for_port`.
            DeadlineError: `rpc.silent`: it listens, and has not answered within `seconds`, nor in
                the time that every call has.
        """
        deadline = time.monotonic() + seconds
        self.wait_for_port(PORT, seconds).close()
        with self.client() as client:
            return client.hello(deadline - time.monotonic())

    def wait_for_end(self, seconds: float = math.inf) -> EndReason:
        """Return how the guest ended, once it has.

        Raises:
            DeadlineError: `guest.runs`: it still does after `seconds`.
        """
        self._listen_to_qemu(seconds)
        if self._end is None:
            raise DeadlineError("guest.runs", f"the guest runs after {seconds:g} s")
        if self._end is EndReason.GIVEN_UP:
            self.quit()
        self._qemu.wait(_END_SECONDS)
        return self._end

    def require_sound_end(self) -> None:
        """Check that the guest ended, and that QEMU said how.

        Raises:
            ChildError: `guest.crashed`: QEMU did not; the text holds its exit code and last words.
        """
        if self._end is EndReason.CRASHED:
            code, words = self._qemu.exit_code(), self._qemu.log_tail()
            raise ChildError("guest.crashed", f"QEMU ended with {code}: {words}")
        if self._end is EndReason.GIVEN_UP:
            words = self._qemu.log_tail()
            raise ChildError("guest.crashed", f"KVM cannot run it on: {words}")

    def quit(self) -> None:
        """End QEMU at once, as a power cut would."""
        if self._qemu.exit_code() is None:
            try:
                self.qmp.execute("quit")
                self._qemu.wait(_QUIT_SECONDS)
            except (PeerError, DeadlineError):
                self._qemu.stop()

    def _require_running(self) -> None:
        if self._qemu.exit_code() is not None:
            self._listen_to_qemu(_QUIT_SECONDS)  # an event may say why
        if self._end is not None:
            self.require_sound_end()
            detail = (
                f"the guest ended ({self._end}) before it was heard:"
                " too little memory, or an image that is not whole"
            )
            raise ChildError("guest.ended", detail)

    def _require_device(self) -> None:
        code = None if self._device is None else self._device.exit_code()
        if self._device is None or code is None:
            return
        self._helpers.pop(VSOCK_DEVICE, None)  # told here
        self._listen_to_qemu(_DEVICE_END_SECONDS)
        self._require_running()
        told = f"the vsock device ended with {code}, so nobody can reach the guest"
        raise ChildError("process.ended", f"{told}: {self._device.log_tail()}")

    def _listen_to_qemu(self, seconds: float) -> None:
        """Take events for `seconds`, or until one says that the guest has ended.

        The clock is read before each event, so a guest cannot gain time by causing many.
        """
        deadline = time.monotonic() + seconds
        while self._end is None and (left := deadline - time.monotonic()) > 0:
            for program in self._programs:  # a guest can make each complain without end
                program.bound_log()
            try:
                self._note_event(self.qmp.next_event(min(left, _LISTEN_SECONDS)))
            except DeadlineError:  # QEMU is not ending, so its helpers should be running
                self._note_lost_helpers()

    def _note_lost_helpers(self) -> None:
        """Report helpers that have ended, killed perhaps; QEMU goes on, and accepts no new one."""
        for name, helper in tuple(self._helpers.items()):
            code = helper.exit_code()
            if code is not None:
                del self._helpers[name]
                self._say(f"{name} ended with {code}: the guest goes on without it")

    def _note_event(self, event: QmpEvent | None) -> None:
        if event is None:
            self._end = EndReason.CRASHED
        elif event.name == "SHUTDOWN":
            self._end = _end_reason(event.data.get("reason"))
        elif event.name == "STOP":
            self._note_stop()
        elif event.name == "BLOCK_IO_ERROR":
            disk, reason = map(event.data.get, ("node-name", "reason"))
            self._note_disk_error(_word(disk), _word(reason))

    def _note_stop(self) -> None:
        """Distinguish a machine that somebody paused from one that KVM has given up.

        QEMU has no other event for the latter. A guest under SEV-SNP ends like this when firmware
        or early kernel requests termination (KVM_SYSTEM_EVENT_SEV_TERM), which QEMU does not know.
        """
        with suppress(PeerError, DeadlineError):  # QEMU is ending: its next event counts
            if self.qmp.execute("query-status").get("status") == EndReason.GIVEN_UP.value:
                self._end = EndReason.GIVEN_UP

    def _note_disk_error(self, disk: str, reason: str) -> None:
        if disk not in self._failed_disks:  # once: every block that it writes may fail
            self._failed_disks.add(disk)
            self._say(f"{disk}: {reason}: the guest gets I/O errors")


def _end_reason(reason: object) -> EndReason:
    for member in EndReason:
        if member.value == reason:
            return member
    return EndReason.OTHER


def _word(value: object) -> str:
    """Return a value from QEMU as printable text, since a guest may have influenced it."""
    text = str(value)
    return text if text.isprintable() else ascii(text)
