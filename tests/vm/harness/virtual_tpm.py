"""A virtual TPM for test guests: swtpm with an attestation key where a platform leaves one."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rootfs_builder.tools_tree import ToolsTree

_SOCKET = "control"
_START_SECONDS = 10.0
_MANUFACTURE = """
swtpm socket --tpm2 --tpmstate dir="$1" --server type=unixio,path="$1/tpm" --daemon \\
    --ctrl type=unixio,path="$1/tpm.ctrl" --flags not-need-init,startup-clear
export TPM2TOOLS_TCTI="swtpm:path=$1/tpm"
tpm2 createek -G rsa -c "$1/ek.ctx" -u "$1/ek.pub"
tpm2 flushcontext -t
tpm2 createak -C "$1/ek.ctx" -G rsa -g sha256 -s rsassa -c "$1/ak.ctx" -u "$1/ak.pub"
tpm2 flushcontext -t
tpm2 evictcontrol -C o -c "$1/ak.ctx" 0x81010002
tpm2 shutdown
swtpm_ioctl -s --unix "$1/tpm.ctrl"
"""


def manufacture_tpm(tools: ToolsTree, cache: Path) -> Path:
    """Return a state directory with an attestation key, made once."""
    state = cache / "tpm"
    if not state.is_dir():
        partial = cache / "tpm.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tools.run(
            ("sh", "-eu", "-c", _MANUFACTURE, "tpm", partial.resolve()), directories=(partial,)
        )
        partial.rename(state)
    return state


@contextmanager
def running_tpm(tools: ToolsTree, state: Path, work: Path) -> Iterator[Path]:
    """Run swtpm on a copy of `state`; yields the control socket for QEMU's tpmdev."""
    directory = work / "tpm"
    directory.mkdir()
    shutil.copy2(state / "tpm2-00.permall", directory)
    socket = directory / _SOCKET
    command = tools.command(
        (
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory.resolve()}"),
            *("--ctrl", f"type=unixio,path={socket.resolve()}"),
        ),
        directories=(directory,),
    )
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("swtpm did not start")
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait()
