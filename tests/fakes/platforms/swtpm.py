"""A real TPM emulator for tests that speak to it themselves, driven beside them by tpm2-tools."""

import os
import socket
import subprocess
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ccinit.kernel.tpm import TpmDevice
from rootfs_builder.tools_tree import ToolsTree

TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))


class Swtpm:
    """One emulator, empty at first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._socket = directory / "tpm.sock"
        (directory / "state").mkdir()
        self._process = subprocess.Popen(
            TOOLS.command(
                (
                    *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory / 'state'}"),
                    *("--server", f"type=unixio,path={self._socket}"),
                    *("--ctrl", f"type=unixio,path={self._socket}.ctrl"),
                    *("--flags", "not-need-init,startup-clear"),
                ),
                directories=(directory,),
            ),
            stderr=subprocess.DEVNULL,  # a line for every client that leaves
        )
        deadline = time.monotonic() + 20
        while not self._accepts():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _accepts(self) -> bool:
        """Whether it can be asked: its socket has a name before it listens."""
        try:
            os.close(self.connect())
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def tools(self, *command: str) -> None:
        """Run one command of tpm2-tools, and free the slots that it leaves taken."""
        self._run(*command)
        self._run("tpm2", "flushcontext", "-t")  # there is no resource manager in front

    def _run(self, *command: str) -> None:
        TOOLS.run(
            command,
            directories=(self.directory,),
            working_directory=self.directory,
            environment={"TPM2TOOLS_TCTI": f"swtpm:path={self._socket}"},
        )

    def connect(self) -> int:
        """Return a descriptor that takes commands."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self._socket))
            return connection.detach()

    def open(self) -> TpmDevice:
        """Return the emulator as the guest's code sees a TPM."""
        return TpmDevice(self.connect())

    def stop(self) -> None:
        self._process.kill()  # it can miss a SIGTERM that comes just before it waits
        self._process.wait(timeout=20)

    @property
    def ak_modulus(self) -> bytes:
        """Of the key that `provision` made."""
        key = load_pem_public_key((self.directory / "ak.pem").read_bytes())
        assert isinstance(key, RSAPublicKey)
        return key.public_numbers().n.to_bytes(256, "big")

    def provision(self, ak_handle: int) -> None:
        """Make an attestation key, as a platform does before its first guest; see `ak.pem`."""
        self.tools("tpm2", "createek", "-G", "rsa", "-c", "ek.ctx", "-u", "ek.pub")
        self.tools(
            *("tpm2", "createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "rsa", "-g", "sha256"),
            *("-s", "rsassa", "-u", "ak.pem", "-f", "pem"),
        )
        self.tools("tpm2", "evictcontrol", "-c", "ak.ctx", hex(ak_handle))
