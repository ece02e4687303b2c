"""Record what firmware measures, from boots of a guest that reports its registers.

Run as root, `python -m tests.vectors.measured_boot.record KERNEL RELEASE WORK`: boots KERNEL three
times under OVMF with a vTPM and emulation (about 70 seconds): in a UKI such as the project's, in
one with all other sections that a prediction knows, and directly. Writes `uki.json`,
`all_sections.json` and `direct.json` beside this file and compares nothing: the unit tests do, and
`measured-boot replay WORK/uki/log --image WORK/uki/reporter.efi`. WORK is a new folder; what was
booted stays there. Needs the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import hashlib
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from ccinit.formats.tcg.event_log import Algorithm, parse_event_log
from host_runtime.commands.boot_plan import ovmf
from host_runtime.launch.launcher import GuestConfig, boot_guest
from host_runtime.machine.esp import create_esp
from host_runtime.machine.qemu import Accelerator, DirectBoot, EspBoot
from host_runtime.machine.swtpm import manufacture_tpm
from host_runtime.programs.tools import Tools
from measured_boot.image.cpio import (
    CpioEntry,
    character_device,
    directory,
    encode_cpio,
    regular_file,
)
from measured_boot.image.pe import parse_pe
from measured_boot.image.uki import OS_RELEASE, UkiParts, plan_ukify
from rootfs_builder.tools_tree import ToolsTree

HERE = Path(__file__).parent
TREE = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
COMMAND_LINE = "console=ttyS0 quiet loglevel=0 panic=-1"
MEMORY_MIB = 512
_BOOT_SECONDS = 300.0
_PYTHON = "usr/bin/python3.13"
_STDLIB = "usr/lib/python3.13"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_FILES = (
    _PYTHON,
    "usr/lib64/ld-linux-x86-64.so.2",
    f"{_STDLIB}/struct.py",
    f"{_STDLIB}/types.py",
    *(f"{_STDLIB}/encodings/{name}.py" for name in ("__init__", "aliases", "ascii", "utf_8")),
    *(f"{_STDLIB}/ctypes/{name}.py" for name in ("__init__", "_endian")),
    f"{_STDLIB}/lib-dynload/_ctypes.cpython-313-x86_64-linux-gnu.so",
    *(f"{_LIBRARIES}/{name}" for name in ("libm.so.6", "libz.so.1", "libexpat.so.1")),
    *(f"{_LIBRARIES}/{name}" for name in ("libc.so.6", "libffi.so.8")),
)
_LONG_SECTIONS = (".text", ".rodata", ".data", ".reloc", ".linux", ".initrd")
# One black pixel: file header, BITMAPINFOHEADER, one row of 24 bits, padded.
_BITMAP = (
    b"BM"
    + struct.pack("<IHHI", 58, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
    + bytes(4)
)


def reporter_initrd() -> bytes:
    """Return an archive that holds an interpreter and `reporter.py`."""
    return encode_cpio(_entries())


def _entries() -> Iterator[CpioEntry]:
    seen = set()
    for name in ("dev", "proc", "sys"):
        yield directory(name)
    yield character_device("dev/null", 1, 3, 0o666)
    yield character_device("dev/console", 5, 1, 0o600)
    for name in ("lib", "lib64"):
        yield CpioEntry(path=name, mode=stat.S_IFLNK | 0o777, data=f"usr/{name}".encode())
    for name in _FILES:
        for parent in reversed(Path(name).parents[:-1]):
            if parent not in seen:
                seen.add(parent)
                yield directory(str(parent))
        yield regular_file(name, (TREE / name).read_bytes(), 0o755)
    program = f"#!/{_PYTHON} -ISB\n".encode() + (HERE / "reporter.py").read_bytes()
    yield regular_file("init", program, 0o755)


def build_uki(kernel: Path, release: str, work: Path, *options: str) -> Path:
    """Return a UKI of the kernel and the reporter's initrd; `options` are added to ukify's."""
    parts = UkiParts(
        stub=Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
        kernel=work / "kernel",
        kernel_release=release,
        os_release=work / "os-release",
        command_line=work / "cmdline",
        initrd=work / "initrd",
    )
    parts.kernel.write_bytes(kernel.read_bytes())
    parts.os_release.write_text(OS_RELEASE)
    parts.command_line.write_text(COMMAND_LINE)
    parts.initrd.write_bytes(reporter_initrd())
    uki = work / "reporter.efi"
    ToolsTree(TREE).run((*plan_ukify(parts, uki), *options), directories=(work,))
    return uki


def write_other_sections(work: Path) -> tuple[str, ...]:
    """Write contents for the sections that the project's UKI has not; return ukify's options.

    Their lengths are no multiples of four, so that padding shows.
    """
    (work / "microcode").write_bytes(encode_cpio([regular_file("early", b"not microcode")]))
    (work / "splash").write_bytes(_BITMAP)
    (work / "key").write_bytes(b"a public key\n")
    (work / "signature").write_bytes(b'{"sha256": []}\n')
    return (
        *(f"--microcode={work / 'microcode'}", f"--splash={work / 'splash'}"),
        *("--section", f".pcrpkey:@{work / 'key'}", "--section", f".pcrsig:@{work / 'signature'}"),
    )


def boot(plan: EspBoot | DirectBoot, work: Path) -> dict[str, str]:
    """Boot one guest and return what it printed."""
    tools = Tools(tree=TREE)
    config = GuestConfig(
        tools=tools,
        folder=work / "boot",
        boot=plan,
        accelerator=Accelerator.TCG,
        memory_mib=MEMORY_MIB,
        firmware=ovmf(tools),
        tpm=manufacture_tpm(tools, work / "tpm"),
    )
    with boot_guest(config) as guest:
        guest.wait_for_end(_BOOT_SECONDS)
    printed = (work / "boot/serial").read_text("ascii", "replace")
    items = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    if "end" not in items:
        raise RuntimeError(f"the guest did not report: {printed[-2000:]}")
    (work / "log").write_bytes(bytes.fromhex(items["log"]))
    return items


def describe(items: dict[str, str]) -> dict[str, object]:
    """Return the recorded registers, and the events of those that are predicted."""
    log = parse_event_log(bytes.fromhex(items["log"]), Algorithm.SHA256).events
    return {
        "kernel_command_line": bytes.fromhex(items["cmdline"]).decode(),
        "pcr": {str(index): items[f"pcr.{index}"] for index in range(16)},
        "events": [
            [event.register, event.kind, event.digest.hex(), event.data[:96].hex()] for event in log
        ],
    }


def describe_uki(uki: Path) -> dict[str, object]:
    """Return what of the UKI a prediction needs, without the kernel and the initrd."""
    image = parse_pe(uki.read_bytes())
    return {
        "authenticode": image.authenticode().hex(),
        "linux_authenticode": parse_pe(bytes(image.section(".linux"))).authenticode().hex(),
        "sections": {
            section.name: hashlib.sha256(image.section(section.name)).hexdigest()
            for section in image.sections
        },
        "contents": {
            section.name: image.section(section.name).hex()
            for section in image.sections
            if section.name not in _LONG_SECTIONS
        },
    }


def record_uki(kernel: Path, release: str, work: Path, *, has_all_sections: bool) -> None:
    """Record a boot from a disk."""
    work.mkdir()
    options = write_other_sections(work) if has_all_sections else ()
    uki = build_uki(kernel, release, work, *options)
    plan = EspBoot(image=create_esp(Tools(tree=TREE), uki, work / "esp.img"))
    _write(work.name, {**describe_uki(uki), **describe(boot(plan, work))})


def record_direct(kernel: Path, work: Path) -> None:
    """Record a boot by QEMU."""
    work.mkdir()
    initrd = work / "initrd"
    initrd.write_bytes(reporter_initrd())
    plan = DirectBoot(kernel=kernel, initrd=initrd, command_line=COMMAND_LINE)
    inputs = {
        "command_line": COMMAND_LINE,
        "initrd": hashlib.sha256(initrd.read_bytes()).hexdigest(),
        "kernel_authenticode": parse_pe(kernel.read_bytes()).authenticode().hex(),
    }
    _write(work.name, {**inputs, **describe(boot(plan, work))})


def main(kernel: Path, release: str, work: Path) -> None:
    """Record all boots."""
    work.mkdir()
    record_uki(kernel, release, work / "uki", has_all_sections=False)
    record_uki(kernel, release, work / "all_sections", has_all_sections=True)
    record_direct(kernel, work / "direct")


def _write(name: str, value: dict[str, object]) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2], Path(sys.argv[3]).absolute())
