"""The test guest's initrd: Python, pytest, the programs of the guest image, and the tests.

An uncompressed archive: under emulation, unpacking a compressed one takes longer than QEMU takes to
copy it. The real image's initrd is made by `rootfs_builder`; nothing here is measured.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rootfs_builder.tools_tree import ToolsTree
from tests.vm.harness import systemd_files
from tests.vm.harness.cpio import CpioWriter
from tests.vm.harness.kernel_package import GuestKernel, plan_modules

PROGRAMS = (
    *("/usr/bin/python3.13", "/usr/bin/crun", "/usr/bin/mkfs.erofs", "/usr/sbin/mke2fs"),
    "/usr/sbin/cryptsetup",  # makes LUKS2 volumes as others do; it is not in the image
    "/usr/sbin/e2fsck",  # has the last word on what has grown; likewise
)
_LINKS = (
    ("/bin", "usr/bin"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/sbin", "usr/sbin"),
    ("/usr/sbin/mkfs.ext4", "mke2fs"),
    ("/usr/bin/python3", "python3.13"),
)
_MOUNT_POINTS = ("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/mnt")
_LOADER = "/lib64/ld-linux-x86-64.so.2"
_STDLIB = "/usr/lib/python3.13"
_STDLIB_UNUSED = (
    "test",
    "idlelib",
    "tkinter",
    "ensurepip",
    "pydoc_data",
    "turtledemo",
    "config-3.13-x86_64-linux-gnu",
)

MODULES = {
    "aesni_intel": "",
    "authenc": "",
    "configfs": "",
    "brd": "rd_nr=4 rd_size=16777216 max_part=0",
    "dm_crypt": "",
    "dm_flakey": "",
    "dm_integrity": "",
    "dm_log_writes": "",
    "dm_verity": "",
    "erofs": "",
    "inet_diag": "",
    "loop": "",
    "overlay": "",
    "sha256_ssse3|sha256": "",
    "tcp_diag": "",
    "veth": "",
    "virtio_blk": "",
    "virtio_net": "",
    "vsock_loopback": "",
    "xts": "",
}
"""What guest tests may use, with load parameters; dependencies come by themselves."""

SOURCES = ("ccinit", "tests/faults", "tests/vm/guest")
SOURCE_FILES = (
    "pyproject.toml",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/fakes/images/passed_layers.py",
    "tests/fakes/machine/luks2.py",
    "tests/fakes/machine/owned.py",
    "tests/fakes/machine/user_child.py",
    "tests/vm/__init__.py",
    "tests/vm/harness/__init__.py",
    "tests/vm/harness/boots.py",
    "tests/vm/harness/guest_disks.py",
)


def write_initrd(
    path: Path,
    tools: ToolsTree,
    kernel: GuestKernel,
    site: Path,
    node_ids: Sequence[str],
    modules: Sequence[str] = (),
    *,
    is_under_systemd: bool = False,
) -> None:
    """Write the archive.

    Args:
        path: where to.
        tools: source of programs, libraries and the standard library.
        kernel: source of modules.
        site: third-party packages, see `site_packages`.
        node_ids: the tests to run, as pytest names them from the repository's root.
        modules: besides `MODULES`.
        is_under_systemd: with what `systemd_files` has.
    """
    programs = (*PROGRAMS, *systemd_files.PROGRAMS) if is_under_systemd else PROGRAMS
    sources = (*SOURCES, *systemd_files.SOURCES) if is_under_systemd else SOURCES
    with path.open("wb") as file:
        archive = CpioWriter(file)
        for name in _MOUNT_POINTS:
            archive.add_directory(name)
        for name, target in _LINKS:
            archive.add_link(name, target)
        archive.add_device("/dev/console", 5, 1)
        archive.add_device("/dev/null", 1, 3)
        _add_programs(archive, tools, site, programs)
        if is_under_systemd:
            systemd_files.add_systemd(archive, tools)
        _add_modules(archive, kernel, modules)
        archive.add_tree("/site", site)
        for source in sources:
            archive.add_tree(f"/src/{source}", Path(source))
        for name in SOURCE_FILES:
            archive.add_file(f"/src/{name}", Path(name))
        archive.add_data("/src/node-ids.json", json.dumps(list(node_ids)).encode())
        program = Path(__file__).with_name("guest_init.py").read_bytes()
        archive.add_data("/init", b"#!/usr/bin/python3.13 -I\n" + program, 0o755)
        archive.finish()


def _add_programs(
    archive: CpioWriter, tools: ToolsTree, site: Path, programs: Sequence[str]
) -> None:
    stdlib = tools.path / _STDLIB.lstrip("/")
    for directory, directories, files in os.walk(stdlib):
        directories[:] = sorted(set(directories) - set(_STDLIB_UNUSED))
        inside = f"{_STDLIB}/{Path(directory).relative_to(stdlib)}".removesuffix("/.")
        for file in sorted(files):
            archive.add_file(f"{inside}/{file}", Path(directory) / file)
    for name in programs:
        archive.add_file(name, (tools.path / name.lstrip("/")).resolve(), 0o755)
    objects = [
        *programs,
        *(f"{_STDLIB}/lib-dynload/{path.name}" for path in stdlib.glob("lib-dynload/*.so")),
        *(str(path.resolve()) for path in site.rglob("*.so")),
    ]
    for name in sorted(_libraries(tools, objects, site)):
        real = (tools.path / name.lstrip("/")).resolve()
        archive.add_file(name.replace("/lib", "/usr/lib", 1), real, 0o755)


def _libraries(tools: ToolsTree, objects: Sequence[str], site: Path) -> set[str]:
    """Return the shared libraries of `objects` and the loader, as absolute names."""
    output = tools.run(("ldd", *objects), directories=(site,)).decode()
    words = (word for line in output.splitlines() if "=>" in line for word in line.split())
    return {word for word in words if word.startswith("/lib/")} | {_LOADER}


def _add_modules(archive: CpioWriter, kernel: GuestKernel, more: Sequence[str]) -> None:
    lines = []
    for path in plan_modules(kernel, (*MODULES, *more)):
        name = path.name.split(".")[0].replace("-", "_")
        lines.append(f"{path.name} {MODULES.get(name, '')}".rstrip())
        archive.add_file(f"/modules/{path.name}", path)
    archive.add_data("/modules/order", "".join(f"{line}\n" for line in lines).encode())
