"""A running device with a guest that has set its rings up."""

from collections.abc import Iterator

import pytest

from host_runtime.programs.process import (
    OwnedProcess,
    python_command,
    python_environment,
    wait_for_listener,
)
from host_runtime.programs.socket_folder import open_socket_folder
from tests.fakes.machine.vhost_front_end import GUEST_CID, RING_SIZE, FrontEnd
from tests.integration.host.vsock_device.device import START_SECONDS, Device


@pytest.fixture
def device() -> Iterator[Device]:
    with open_socket_folder() as folder:
        command = (
            *python_command("host_runtime.vsock.device"),
            *("--socket", str(folder / "vhost"), "--path", str(folder / "vsock")),
            *("--cid", str(GUEST_CID), "--capture", str(folder / "capture")),
        )
        log = folder / "log"
        with OwnedProcess(command, log=log, environment=python_environment()) as process:
            wait_for_listener(folder / "vhost", process, START_SECONDS)
            with FrontEnd(folder / "vhost") as guest:
                guest.negotiate()
                guest.start()
                guest.give_buffers(RING_SIZE)
                wait_for_listener(folder / "vsock", process, START_SECONDS)
                yield Device(folder=folder, process=process, guest=guest)
                assert process.exit_code() is None, process.log_tail()
            assert process.wait(20) == 0, process.log_tail()
