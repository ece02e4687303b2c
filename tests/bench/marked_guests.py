"""Guests that mark their boot: ours with either carrier, two of mkosi's with systemd, a busybox.

All have the guest's kernel and those words of its command line that concern the kernel, begin with
the same two lines of shell, and are booted by QEMU without firmware. Changes to ours: these lines
come before stage 0, others take the place of CONFIG, and the words are left out that would close
the serial port to which marks are written.
"""

import hashlib
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from ccinit.formats.cmdline import Carrier, RootLocation
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.accelerator import choose_accelerator
from host_runtime.machine.qemu import DirectBoot, Disk
from host_runtime.programs.tools import Tools
from measured_boot.image.verity import VerityDisk, append_hash_tree
from measured_boot.image_files import read_report
from rootfs_builder.guest_image.build import command_line
from rootfs_builder.guest_image.erofs import erofs_command
from rootfs_builder.guest_image.stage0_archive import join_initrd
from tests.bench.guest_root import open_guest_root, remove_others
from tests.bench.measurement import Bench
from tests.bench.systemd_image import build_systemd_images
from tests.chain.published_image import read_image
from tests.vm.harness.cpio import CpioWriter

START: Final = "start"
"""The first instruction of user space that a guest chooses; with it comes the kernel's uptime."""

_BEGIN: Final = "/bench-begin"
_BUSYBOX: Final = "/busybox"  # by this name it takes the program from its first argument
_TELL: Final = f"""#!{_BUSYBOX} sh
{_BUSYBOX} mount -t proc proc /proc
read up idle </proc/uptime
{_BUSYBOX} umount /proc
echo bench {START} $up >/dev/ttyS0
exec /init
"""
_MEASURE: Final = f"""#!{_BUSYBOX} sh
{_BUSYBOX} mount -t proc proc /proc
while read name kib unit; do
    case $name in MemTotal:) total=$kib;; MemAvailable:) available=$kib;; esac
done </proc/meminfo
echo bench memory $total $available >/dev/ttyS0
while :; do {_BUSYBOX} sleep 1000; done
"""
_CLOSES_THE_PORT: Final = frozenset({"8250.nr_uarts=0"})
_SYSTEMD_WORDS: Final = "systemd.unit=multi-user.target systemd.show_status=0 systemd.firstboot=off"
_PROGRAM: Final = Path(__file__).with_name("guest_programs") / "stop_at_listen.py"
_COMPILE: Final = (
    "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True,"
    " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedGuests:
    """Machines to boot, made by `make_marked_guests`; each may be booted any number of times.

    Attributes:
        verity: systemd, whose initrd opens a verified root on a disk.
        smallest: systemd, all of it in one initrd.
    """

    ours: dict[Carrier, GuestConfig]
    verity: GuestConfig
    smallest: GuestConfig
    busybox: GuestConfig


def make_marked_guests(bench: Bench) -> MarkedGuests:
    """Make all of them below the folder for work."""
    report = read_report(bench.images / "ccinit-prod.json")
    words = str(report["command_lines"]["uki"]).split()
    common = [
        word for word in words if word not in _CLOSES_THE_PORT and not word.startswith("ccinit.")
    ]
    base = " ".join((*common, f"rdinit={_BEGIN}"))
    systemd_line = f"{base} {_SYSTEMD_WORDS}"
    systemd = build_systemd_images(bench)
    busybox = systemd.busybox.read_bytes()
    maker = _Maker(bench=bench, root=_open_root(bench), begin=_archive(busybox, _TELL))
    disk = Disk(path=systemd.disk, serial="root", is_read_only=True)
    return MarkedGuests(
        ours={carrier: maker.ours(carrier, base) for carrier in Carrier},
        verity=maker.machine(
            maker.write("verity.initrd", maker.begin + systemd.disk_initrd.read_bytes()),
            f"{systemd_line} {systemd.root_word}",
            (disk,),
        ),
        smallest=maker.machine(
            maker.write("smallest.initrd", maker.begin + systemd.initrd.read_bytes()), systemd_line
        ),
        busybox=maker.machine(maker.write("busybox.initrd", _archive(busybox, _MEASURE)), base),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    bench: Bench
    root: VerityDisk
    begin: bytes

    def ours(self, carrier: Carrier, base: str) -> GuestConfig:
        image = read_image(self.bench.images, "prod")
        verity, root = self.root.parameters, b""
        disks: tuple[Disk, ...] = ()
        if carrier is Carrier.RAM:
            line = command_line(base, RootLocation(carrier=carrier))
            root = self.root.data[: verity.data_bytes]
        else:
            line = command_line(base, RootLocation(carrier=carrier, verity=verity))
            path = self.write("root.disk", self.root.data)
            disks = (Disk(path=path, serial="root", is_read_only=True),)
        initrd = self.begin + join_initrd(image.common, line, root)
        return self.machine(self.write(f"{carrier}.initrd", initrd), line, disks)

    def write(self, name: str, data: bytes) -> Path:
        path = (self.bench.work / name).absolute()
        path.write_bytes(data)
        return path

    def machine(self, initrd: Path, line: str, disks: tuple[Disk, ...] = ()) -> GuestConfig:
        tools = Tools(tree=self.bench.tools.path)
        return GuestConfig(
            tools=tools,
            folder=initrd.with_suffix(".boot"),
            boot=DirectBoot(
                kernel=(self.bench.images / "ccinit-prod.vmlinuz").absolute(),
                initrd=initrd,
                command_line=line,
            ),
            accelerator=choose_accelerator(tools),
            disks=disks,
        )


def _archive(busybox: bytes, script: str) -> bytes:
    """Return an archive, padded to 4 bytes, whose script is the first program."""
    file = BytesIO()
    archive = CpioWriter(file)
    for name in ("/dev", "/proc"):
        archive.add_directory(name)
    archive.add_device("/dev/null", 1, 3)
    archive.add_device("/dev/ttyS0", 4, 64)
    archive.add_data(_BUSYBOX, busybox, 0o755)
    archive.add_data(_BEGIN, script.encode(), 0o755)
    archive.finish()
    return file.getvalue() + bytes(-len(file.getvalue()) % 4)


def _open_root(bench: Bench) -> VerityDisk:
    """Return the published root with our program in place of its own, made unless it is there."""
    published = open_guest_root(bench).path
    key = hashlib.sha256(published.name.encode() + _PROGRAM.read_bytes()).hexdigest()[:16]
    image = (bench.cache / f"marked-{key}" / "root.erofs").resolve()
    if not image.is_file():
        bench.say("making the root that marks its boot")
        remove_others(bench.cache, "marked-*")
        image.parent.mkdir()
        tree, partial = image.with_name("tree"), image.with_suffix(".partial")
        shutil.copytree(published, tree, symlinks=True)
        shutil.rmtree(tree / "usr/lib/bench", ignore_errors=True)  # programs of other rows
        source = image.with_name("main.py")
        shutil.copyfile(_PROGRAM, source)
        main = tree / "usr/lib/ccinit/__main__.pyc"
        main.unlink()
        bench.tools.run(("python3", "-c", _COMPILE, source, main), directories=(image.parent,))
        bench.tools.run(erofs_command(tree, partial), directories=(image.parent,))
        shutil.rmtree(tree)
        partial.rename(image)
    return append_hash_tree(image.read_bytes())
