"""The whole user space of the recorded guest: prints registers and firmware's event log, and ends.

Runs as PID 1 of a guest that has nothing but an interpreter, so it mounts what it reads. Output on
the serial port, one item per line: `NAME=HEX`, last `end=`.
"""

import ctypes

_REGISTERS = "/sys/class/tpm/tpm0/pcr-sha256"
_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
_RB_AUTOBOOT = 0x01234567


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for name, kind in (
        ("/proc", b"proc"),
        ("/sys", b"sysfs"),
        ("/dev", b"devtmpfs"),
        ("/sys/kernel/security", b"securityfs"),
    ):
        if libc.mount(kind, name.encode(), kind, 0, None):
            raise OSError(ctypes.get_errno(), name)
    with open("/dev/ttyS0", "w", encoding="ascii") as port:  # noqa: PTH123  # no pathlib here
        for index in range(24):
            value = _read(f"{_REGISTERS}/{index}").decode().strip().lower()
            print(f"pcr.{index}={value}", file=port)
        print(f"cmdline={_read('/proc/cmdline').hex()}", file=port)
        print(f"log={_read(_LOG).hex()}", file=port)
        print("end=", file=port, flush=True)
        libc.tcdrain(port.fileno())
    libc.reboot(_RB_AUTOBOOT)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


main()
