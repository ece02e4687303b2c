"""The smallest guest that says something in Python: a yardstick for boots on this machine.

The guest's kernel and interpreter in an initrd, with a PID 1 that writes one line to the serial
port: no modules, no root, no command line to check. Nothing that boots Python on this machine can
be faster, so whatever our guest takes beyond this is our own.
"""

import time
from pathlib import Path

from host_runtime.launch.launcher import GuestConfig, boot_guest
from tests.bench.guest_root import ENVIRONMENT, GuestRoot, run
from tests.bench.measurement import BenchError
from tests.vm.harness.cpio import CpioWriter

LINE = b"first line"
COMMAND_LINE = "console=ttyS0 quiet panic=-1 rdinit=/usr/bin/python3.13 -- -I -S -B /main.py"
_MAIN = b"import posix\nposix.write(1, b'first line\\n')\nwhile posix.read(0, 1): pass\n"
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
_LOADER = Path("usr/lib64/ld-linux-x86-64.so.2")
_BOOT_SECONDS = 180.0
_POLL_SECONDS = 0.01
# Every file that a started interpreter has imported or mapped.
_LIST_FILES = """
import sys
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", "") or "")
with open("/proc/self/maps") as maps:
    for line in maps:
        print(line.partition("/")[1] + line.partition("/")[2].strip())
"""


def write_bare_initrd(root: GuestRoot, store: Path, path: Path) -> Path:
    """Write the initrd; `store` is any folder."""
    listed = run(root.command_with_store(store, "-c", _LIST_FILES), ENVIRONMENT)
    files = {name for name in listed.split("\n") if name.startswith("/usr/")}
    with path.open("wb") as file:
        archive = CpioWriter(file)
        for name in sorted(files):
            source = root.path / name.lstrip("/")
            if source.exists():  # frozen modules name files that are not there
                archive.add_file(name, source)
        links = (path for path in (*root.path.iterdir(), *(root.path / _LIBRARIES).iterdir()))
        for link in sorted((*links, root.path / _LOADER)):
            if link.is_symlink():
                archive.add_link(f"/{link.relative_to(root.path)}", str(link.readlink()))
        archive.add_device("/dev/console", 5, 1)
        archive.add_data("/main.py", _MAIN)
        archive.finish()
    return path


def boot_bare(config: GuestConfig) -> float:
    """Boot it; return milliseconds from power-on to its line.

    Raises:
        BenchError: it said nothing in three minutes.
    """
    with boot_guest(config) as guest:
        serial = guest.files.sinks.serial
        while time.monotonic() - guest.started_at < _BOOT_SECONDS:
            if LINE in serial.read_bytes():
                return (time.monotonic() - guest.started_at) * 1000
            time.sleep(_POLL_SECONDS)
        raise BenchError(f"the bare guest said {serial.read_bytes()[-500:]!r}")
