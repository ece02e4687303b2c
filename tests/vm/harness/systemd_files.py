"""What a test guest has for tests that run below a real systemd, as a host of containers does.

systemd as PID 1, a D-Bus daemon with the units and rules of its package, and the runtime's sources.
Of systemd's own units it has none: they would start what no test needs.
"""

from pathlib import Path

from rootfs_builder.tools_tree import ToolsTree
from tests.vm.harness.cpio import CpioWriter

PROGRAMS = (
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-executor",
    "/usr/bin/busctl",
    "/usr/bin/dbus-daemon",
)
SOURCES = ("host-runtime/src/host_runtime", "measured-boot/src/measured_boot")

_PRIVATE_LIBRARIES = "usr/lib/x86_64-linux-gnu/systemd"
_BUS_FOLDER = "usr/share/dbus-1"
_BUS_RULES = ("system.conf", "system.d/org.freedesktop.systemd1.conf")
_UNITS = "usr/lib/systemd/system"
_BUS_UNITS = ("dbus.service", "dbus.socket")
# Without the targets that such units wait for otherwise.
_EARLY = b"[Unit]\nDefaultDependencies=no\n"
_USERS = b"root:x:0:0::/root:/bin/sh\nmessagebus:x:999:999::/:/bin/false\n"
_GROUPS = b"root:x:0:\nmessagebus:x:999:\n"


def add_systemd(archive: CpioWriter, tools: ToolsTree) -> None:
    """Add everything but `PROGRAMS`, with their shared libraries, and `SOURCES`."""
    for path in sorted((tools.path / _PRIVATE_LIBRARIES).glob("libsystemd-*.so")):
        archive.add_file(f"/{_PRIVATE_LIBRARIES}/{path.name}", path, 0o755)
    for name in _BUS_RULES:
        _copy(archive, tools, f"{_BUS_FOLDER}/{name}")
    for name in _BUS_UNITS:
        _copy(archive, tools, f"{_UNITS}/{name}")
        archive.add_data(f"/{_UNITS}/{name}.d/early.conf", _EARLY)
    archive.add_data("/etc/passwd", _USERS)
    archive.add_data("/etc/group", _GROUPS)


def _copy(archive: CpioWriter, tools: ToolsTree, name: str) -> None:
    archive.add_file(f"/{name}", Path(tools.path / name), 0o644)
