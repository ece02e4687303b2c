"""The vsock device's process without a descriptor left: it neither ends nor spins."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT
from host_runtime.relay.kbs import guest_path, open_unix_listener
from host_runtime.vsock.packets import Operation
from tests.integration.host.vsock_device.device import GUEST_PORT, Device

_SECONDS = 1.0


@contextmanager
def without_descriptors(device: Device) -> Iterator[None]:
    """Let the device open nothing more within the block."""
    pid = device.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def busy_seconds(pid: int) -> float:
    """How long a process has run, in its own code and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_client_that_cannot_be_taken_waits_and_nobody_spins(device: Device) -> None:
    with without_descriptors(device):
        stream = device.dial()
        before = busy_seconds(device.process.pid)
        time.sleep(_SECONDS)
        assert busy_seconds(device.process.pid) - before < _SECONDS / 5
    with stream:
        header, _ = device.guest.receive()
        assert header.operation == Operation.REQUEST
    assert device.process.log_tail().count("Too many open files") == 1


def test_connection_of_the_guest_without_a_descriptor_is_refused_and_the_next_is_not(
    device: Device,
) -> None:
    with open_unix_listener(guest_path(device.folder / "vsock")) as kbs:
        kbs.settimeout(20)
        with without_descriptors(device):
            for _ in range(2):
                ask_for_the_kbs(device)
                assert device.guest.receive()[0].operation == Operation.RST
        ask_for_the_kbs(device)
        stream, _ = kbs.accept()
        assert isinstance(stream, socket.socket)
        stream.close()
    assert device.process.log_tail().count("Too many open files") == 1


def ask_for_the_kbs(device: Device) -> None:
    device.guest.send(Operation.REQUEST, port=GUEST_PORT, host_port=KBS_VSOCK_PORT)
