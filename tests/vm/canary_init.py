"""PID 1 of a guest that tries every way out: it writes what it is told to every sink there is.

The opposite of the real image: a kernel without lockdown, root without limits. One connection on a
vsock port brings a line of JSON, bytes in hex by the name of the sink
(`host_runtime.host_view.sinks`). Each is written, a line of JSON says what failed, and the bytes
for `vsock` follow on the connection itself. A second line, of any content, ends the guest by a
kernel panic.

Runs alone in an initrd: standard library only.
"""

import ctypes
import fcntl
import json
import mmap
import os
import socket
import struct
import sys
import traceback
import tty
from collections.abc import Callable
from pathlib import Path

PORT = 1024
VMADDR_CID_ANY = 0xFFFF_FFFF
SYS_FINIT_MODULE = 313
MODULE_INIT_COMPRESSED_FILE = 4
DEBUGCON_PORT, FIRMWARE_DEBUG_PORT, PVPANIC_PORT = 0xE9, 0x402, 0x505
PANICKED = 1
ERST_DEVICE = "1b36:0012"  # QEMU's docs/specs/acpi_erst.rst; actions: ACPI 6.5, section 18.5.1
ERST_VALUE, ERST_EXECUTE = 8, 0x9C
BEGIN_WRITE, END, SET_OFFSET, EXECUTE, GET_STATUS = 0, 3, 4, 5, 7
CPER_BYTES = 128  # header of an error record: UEFI 2.10, appendix N
EFI_ATTRIBUTES = struct.pack("<I", 7)  # non-volatile, boot service and runtime access
EFI_VARIABLE = "Canary-cc1a17e5-0000-4000-8000-000000000000"
ETH_P_EXPERIMENTAL = 0x88B5
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
DISK_OFFSET = 1 << 20
MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"))
EFIVARS = "/sys/firmware/efi/efivars"
# mov edx, edi; mov eax, esi; out dx, al; ret
OUT_CODE = bytes.fromhex("89fa 89f0 ee c3")

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def load_modules() -> None:
    for name in Path("/canary-modules/order").read_text().split():
        with open(f"/canary-modules/{name}", "rb") as file:  # noqa: PTH123  # its descriptor counts
            arguments = (file.fileno(), b"", MODULE_INIT_COMPRESSED_FILE)
            check(libc.syscall(SYS_FINIT_MODULE, *arguments), name)


def write_terminal(node: str) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        fd = os.open(node, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        while data:
            data = data[os.write(fd, data) :]
        os.close(fd)  # waits until the last byte has gone

    return write


def write_port(port: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        check(libc.ioperm(port, 1, 1), f"ioperm {port:#x}")
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(OUT_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        out = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int)(address)
        for byte in data:
            out(port, byte)

    return write


def write_panic_device(data: bytes) -> None:
    """It takes one bit, whatever the bytes."""
    del data
    write_port(PVPANIC_PORT)(bytes((PANICKED,)))


def write_variable(data: bytes) -> None:
    Path(f"{EFIVARS}/{EFI_VARIABLE}").write_bytes(EFI_ATTRIBUTES + data)


def write_error_record(data: bytes) -> None:
    """As the kernel's driver does it, which has no way for programs."""
    registers, exchange = (map_resource(find_device(ERST_DEVICE), number) for number in (0, 1))
    head = struct.pack("<4s16xI72xQ", b"CPER", CPER_BYTES + len(data), 1).ljust(CPER_BYTES, b"\0")
    exchange[: CPER_BYTES + len(data)] = head + data

    def act(action: int, value: int = 0) -> int:
        registers[ERST_VALUE : ERST_VALUE + 4] = struct.pack("<I", value)
        registers[:4] = struct.pack("<I", action)
        (answer,) = struct.unpack("<I", registers[ERST_VALUE : ERST_VALUE + 4])
        return int(answer)

    for action, value in ((BEGIN_WRITE, 0), (SET_OFFSET, 0), (EXECUTE, ERST_EXECUTE)):
        act(action, value)
    status = act(GET_STATUS)
    act(END)
    if status:
        raise OSError(status, "the record was not taken")


def find_device(name: str) -> Path:
    ids = tuple(f"0x{number}" for number in name.split(":"))
    (device,) = (
        path
        for path in Path("/sys/bus/pci/devices").iterdir()
        if tuple((path / kind).read_text().strip() for kind in ("vendor", "device")) == ids
    )
    return device


def map_resource(device: Path, number: int) -> mmap.mmap:
    path = device / f"resource{number}"
    with path.open("r+b", buffering=0) as file:
        return mmap.mmap(file.fileno(), path.stat().st_size)


def write_frame(data: bytes) -> None:
    (link,) = (path for path in Path("/sys/class/net").iterdir() if path.name != "lo")
    mac = bytes.fromhex((link / "address").read_text().strip().replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        fcntl.ioctl(raw, SIOCSIFFLAGS, struct.pack("16sh14x", link.name.encode(), IFF_UP))
        raw.bind((link.name, 0))
        raw.send(b"\xff" * 6 + mac + struct.pack(">H", ETH_P_EXPERIMENTAL) + data)


def write_disk(data: bytes) -> None:
    fd = os.open("/dev/vda", os.O_RDWR | os.O_SYNC)
    os.pwrite(fd, data, DISK_OFFSET)
    os.close(fd)


WAYS: dict[str, Callable[[bytes], None]] = {
    "serial": write_terminal("/dev/ttyS0"),
    "console": write_terminal("/dev/hvc0"),
    "debugcon": write_port(DEBUGCON_PORT),
    "firmware_debug": write_port(FIRMWARE_DEBUG_PORT),
    "pvpanic": write_panic_device,
    "pstore": write_variable,
    "erst": write_error_record,
    "network": write_frame,
    "disks": write_disk,
}


def serve() -> None:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        listener.bind((VMADDR_CID_ANY, PORT))
        listener.listen()
        connection, _ = listener.accept()
    with connection.makefile("rwb") as stream:
        order = {name: bytes.fromhex(text) for name, text in json.loads(stream.readline()).items()}
        failed = {}
        for name, write in WAYS.items():
            try:
                write(order[name])
            except Exception:  # noqa: BLE001  # the host is told, and the others still tried
                failed[name] = traceback.format_exc()
        stream.write(json.dumps(failed).encode() + b"\n" + order["vsock"])
        stream.flush()
        stream.readline()
    os.sync()
    Path("/proc/sysrq-trigger").write_text("c")


def main() -> None:
    for kind, target in MOUNTS:
        check(libc.mount(kind.encode(), target.encode(), kind.encode(), 0, b""), target)
    load_modules()
    check(libc.mount(b"efivarfs", EFIVARS.encode(), b"efivarfs", 0, b""), EFIVARS)
    serve()


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001  # the console is a sink here, and read if this fails
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    libc.reboot(0x1234567)
