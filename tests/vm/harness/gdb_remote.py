"""What a hostile host can do to memory that nothing encrypts: through QEMU's own debugger stub.

The remote serial protocol (GDB manual, appendix E) as far as it takes to stop a virtual machine,
ask where its processor is, overwrite an instruction and let it go on.
"""

import socket
import time
from pathlib import Path

from host_runtime.machine.qmp import QmpClient

UD2 = b"\x0f\x0b"  # an instruction that is none: Intel SDM volume 2, "UD"
KERNEL_TEXT = 0xFFFF_FFFF_8000_0000
_RIP = slice(16 * 8, 17 * 8)  # after sixteen general registers, in the stub's order
_TRIES = 200


class GdbRemote:
    """One connection; the machine stands while it is there."""

    def __init__(self, path: Path) -> None:
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream.settimeout(10)
        self._stream.connect(str(path))

    def ask(self, command: str) -> str:
        """Send a packet and return the answer's content."""
        checksum = sum(command.encode()) & 0xFF
        self._stream.sendall(f"+${command}#{checksum:02x}".encode())
        text = b""
        while text[-3:-2] != b"#":
            data = self._stream.recv(4096)
            assert data, "the machine is gone"
            text += data
        return text.partition(b"$")[2].partition(b"#")[0].decode()

    def instruction_pointer(self) -> int:
        """Where the processor goes on."""
        return int.from_bytes(bytes.fromhex(self.ask("g"))[_RIP], "little")

    def write(self, address: int, data: bytes) -> None:
        """Overwrite memory, whatever its page allows."""
        assert self.ask(f"M{address:x},{len(data):x}:{data.hex()}") == "OK"

    def leave(self) -> None:
        """Let the machine go on."""
        assert self.ask("D") == "OK"
        self._stream.close()


def break_the_kernel(qmp: QmpClient, path: Path) -> int:
    """Make the next thing that the kernel does an illegal instruction; return where."""
    server = f"gdbserver unix:{path},server=on,wait=off"
    qmp.execute("human-monitor-command", **{"command-line": server})
    for _ in range(_TRIES):
        remote = GdbRemote(path)
        here = remote.instruction_pointer()
        if here >= KERNEL_TEXT:
            remote.write(here, UD2)
        remote.leave()
        if here >= KERNEL_TEXT:
            return here
        time.sleep(0.05)
    raise AssertionError("the processor was never in the kernel")
