"""How a host asks for a simulated platform, and what a guest on that machine then finds.

The machine's serial number says which platform to simulate, and the field that a real host sets at
launch. Memory files stand in for what a kernel driver would show; one module for each platform
makes their contents.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from ccinit.attest.simulated import sample, snp, tdx
from ccinit.errors import ConfigError
from ccinit.formats.evidence.tee import Tee, initdata_binding
from ccinit.kernel.memory_file import open_memory_file
from ccinit.kernel.tsm import OpenReport

SERIAL_NUMBER = "/sys/class/dmi/id/product_serial"

MakeFiles = Callable[[bytes, bytes], Mapping[str, bytes]]
"""Takes the launch field and 64 bytes of report data; returns contents by file name."""

SIMULATIONS: Mapping[Tee, MakeFiles] = {
    Tee.SNP: snp.make_files,
    Tee.TDX: tdx.make_files,
    Tee.SAMPLE: sample.make_files,
}


def serial_number(tee: Tee, launch_field: bytes = b"") -> str:
    """Return the serial number that asks for a simulated platform with this launch field."""
    return f"ccinit-{tee}-sim:{launch_field.hex()}"


def find_simulated(read: Callable[[str], str]) -> tuple[Tee, OpenReport] | None:
    """Return the platform that the host wants this machine to simulate, and its reports, if any.

    Args:
        read: the text of a file, "" if there is none.

    Raises:
        ConfigError: `attest.simulated`, the host gave no launch field of the platform's length.
    """
    serial = read(SERIAL_NUMBER).strip()
    for tee, make_files in SIMULATIONS.items():
        prefix = serial_number(tee)
        if serial.startswith(prefix):
            field = _read_launch_field(tee, serial.removeprefix(prefix))
            return tee, partial(_open_files, make_files, field)
    return None


def _read_launch_field(tee: Tee, text: str) -> bytes:
    try:
        field = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError("attest.simulated", f"{tee}: the launch field is not hex") from error
    if len(field) != initdata_binding(tee).size_bytes:
        raise ConfigError("attest.simulated", f"{tee}: a launch field of {len(field)} bytes")
    return field


@contextmanager
def _open_files(
    make_files: MakeFiles, field: bytes, report_data: bytes
) -> Iterator[Mapping[str, int]]:
    """Do what `ccinit.kernel.tsm.open_report_entry` does, with files in memory."""
    with ExitStack() as stack:
        fds = {}
        for name, content in make_files(field, report_data).items():
            fds[name] = open_memory_file(name, content)
            stack.callback(os.close, fds[name])
            os.lseek(fds[name], 0, os.SEEK_SET)
        yield fds
