"""PID 1 of the test guest: mounts, modules, then pytest; its reports leave by a virtio port.

Where systemd is installed, it becomes PID 1 after the modules, and pytest is a unit of its.

Deliberately not made of ccinit's own code: what is under test does not prepare its test.
"""

import ctypes
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

SYS_FINIT_MODULE = 313
MODULE_INIT_COMPRESSED_FILE = 4
MS_BIND = 4096
MS_MOVE = 8192
RB_AUTOBOOT = 0x1234567
PORT_NAME = "ccinit.results"

KERNEL_MOUNTS = (
    ("proc", "/proc", "proc", ""),
    ("sysfs", "/sys", "sysfs", ""),
    ("devtmpfs", "/dev", "devtmpfs", ""),
)
OTHER_MOUNTS = (
    ("tmpfs", "/run", "tmpfs", ""),
    ("tmpfs", "/tmp", "tmpfs", ""),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", ""),
    ("configfs", "/sys/kernel/config", "configfs", ""),
    ("devpts", "/dev/pts", "devpts", ""),
    ("tmpfs", "/dev/shm", "tmpfs", ""),
)

SYSTEMD = "/usr/lib/systemd/systemd"
UNIT = Path("/run/systemd/system/tests.service")
UNIT_TEXT = """[Unit]
DefaultDependencies=no
Requires=dbus.service
After=dbus.service
SuccessAction=reboot-immediate
FailureAction=reboot-immediate

[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=tty
WorkingDirectory=/src
"""

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def mount(source: str, target: str, kind: str, options: str, flags: int = 0) -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), flags, options.encode())
    check(libc.mount(*arguments), target)


def make_root_a_mount() -> None:
    """pivot_root refuses the initramfs itself, and container runtimes pivot."""
    mount("/", "/mnt", "", "", MS_BIND)
    os.chdir("/mnt")
    mount(".", "/", "", "", MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def load_modules() -> None:
    for line in Path("/modules/order").read_text().splitlines():
        name, _, parameters = line.partition(" ")
        fd = os.open(f"/modules/{name}", os.O_RDONLY | os.O_CLOEXEC)
        arguments = (fd, parameters.encode(), MODULE_INIT_COMPRESSED_FILE)
        check(libc.syscall(SYS_FINIT_MODULE, *arguments), name)
        os.close(fd)


def find_port() -> str:
    for port in Path("/sys/class/virtio-ports").iterdir():
        if (port / "name").read_text().strip() == PORT_NAME:
            return f"/dev/{port.name}"
    raise FileNotFoundError(PORT_NAME)


def become_systemd(command: Sequence[str], environment: Mapping[str, str]) -> None:
    UNIT.parent.mkdir(parents=True)
    words = " ".join(json.dumps(word) for word in command)
    lines = [f"Environment={json.dumps(f'{name}={value}')}" for name, value in environment.items()]
    UNIT.write_text(UNIT_TEXT + "\n".join([*lines, f"ExecStart={words}", ""]))
    sys.stdout.flush()
    os.execv(SYSTEMD, (SYSTEMD, f"--unit={UNIT.name}"))


def main() -> None:
    make_root_a_mount()
    for row in KERNEL_MOUNTS:
        mount(*row)
    Path("/proc/sys/kernel/modprobe").write_text("\n")
    load_modules()
    for source, target, kind, options in OTHER_MOUNTS:
        Path(target).mkdir(parents=True, exist_ok=True)
        mount(source, target, kind, options)
    node_ids = json.loads(Path("/src/node-ids.json").read_text())
    environment = {
        "CCINIT_GUEST_REPORTS": find_port(),
        "HOME": "/root",
        "NO_COLOR": "1",
        "PATH": "/usr/bin:/usr/sbin",
        "PYTHONPATH": "/src:/site:/src/host-runtime/src:/src/measured-boot/src",
    }
    command = (
        *("/usr/bin/python3.13", "-m", "pytest"),
        *("-p", "no:cacheprovider", "--continue-on-collection-errors"),
    )
    if Path(SYSTEMD).exists():
        become_systemd((*command, *node_ids), environment)
    subprocess.run((*command, *node_ids), cwd="/src", env=environment, check=False)


try:
    main()
except BaseException:  # noqa: BLE001  # the host reads the console when results are missing
    traceback.print_exc(file=sys.stdout)
finally:
    sys.stdout.flush()
    os.sync()
    libc.reboot(RB_AUTOBOOT)
