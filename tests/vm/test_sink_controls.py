"""Positive controls: what a guest does write to a sink is found there, in every form searched for.

Without them "nothing was found" could mean that nobody looked. A guest without any of our defences
(`canary_init`) writes a canary of its own to each sink, on the machine that the real image gets.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_runtime.commands.boot_plan import ovmf
from host_runtime.host_view.firmware_text import firmware_name, read_record
from host_runtime.host_view.search import Encoding, Hit, encode_canary, find_canaries
from host_runtime.host_view.sinks import Sink
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.disks import create_sparse_disk
from host_runtime.machine.qemu import Accelerator, DirectBoot, Disk, UserNetwork
from rootfs_builder.tools_tree import ToolsTree
from tests.vm import canary_init
from tests.vm.direct_boot import BOOT_TEST_SECONDS, END_SECONDS, TOOLS, recorded_guest
from tests.vm.harness.boot import CACHE
from tests.vm.harness.boot import TOOLS as TOOLS_TREE
from tests.vm.harness.cpio import CpioWriter
from tests.vm.harness.initrd import write_initrd
from tests.vm.harness.kernel_package import GuestKernel, open_guest_kernel, plan_modules
from tests.vm.harness.site_packages import open_site_packages

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]

TEXT_SINKS = (
    "serial",
    "console",
    "debugcon",
    "firmware_debug",
    "pstore",
    "erst",
    "vsock",
    "network",
    "disks",
)
MODULES = (
    *("virtio_blk", "virtio_net", "vmw_vsock_virtio_transport"),
    *("efivarfs", "efi_pstore", "pvpanic_pci"),
)
# One place for panics: else ACPI's, which the kernel finds first, would be it. Its driver would
# have the registers for itself, too.
COMMAND_LINE = (
    "console=ttyS0 loglevel=4 panic=-1 pstore.backend=efi_pstore erst_disable rdinit=/init"
)
CANARY_BYTES = 24
MEMORY_MIB = 1024
START_SECONDS = 120.0
DISK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """One guest's life, over."""

    guest: Guest
    canaries: dict[str, bytes]
    sinks: dict[str, Sink]
    failed: dict[str, str]
    end: EndReason


@pytest.fixture(scope="module")
def leaks(tmp_path_factory: pytest.TempPathFactory) -> Leaks:
    folder = tmp_path_factory.mktemp("leaks")
    canaries = {name: os.urandom(CANARY_BYTES) for name in (*TEXT_SINKS, "never written")}
    config = plan_guest(folder)
    with recorded_guest(config, "sink controls (generic, OVMF)") as guest:
        # Else QEMU stops the machine at the panic device's first word.
        guest.qmp.execute("set-action", panic="none")
        failed = order(guest, canaries)
        end = guest.wait_for_end(END_SECONDS)
    assert config.firmware is not None
    assert config.network is not None
    sinks = guest.files.all_sinks(
        firmware=firmware_name(config.firmware.code),
        disks=config.disks,
        mac=config.network.mac,
    )
    return Leaks(
        guest=guest,
        canaries=canaries,
        sinks={sink.name: sink for sink in sinks},
        failed=failed,
        end=end,
    )


def order(guest: Guest, canaries: dict[str, bytes]) -> dict[str, str]:
    """Tell the guest what to write where; return what it says has failed."""
    words = {name: every_form(canaries[name]).hex() for name in TEXT_SINKS}
    with guest.wait_for_port(canary_init.PORT, START_SECONDS) as connection:
        connection.settimeout(60)
        with connection.makefile("rwb") as stream:
            stream.write(json.dumps({**words, "pvpanic": ""}).encode() + b"\n")
            stream.flush()
            failed: dict[str, str] = json.loads(stream.readline())
            expected = every_form(canaries["vsock"])
            assert stream.read(len(expected)) == expected
            stream.write(b"end\n")
            stream.flush()
    return failed


def every_form(canary: bytes) -> bytes:
    return b"\n".join(encode_canary(canary).values())


def plan_guest(folder: Path) -> GuestConfig:
    tools = ToolsTree(TOOLS_TREE)
    kernel = open_guest_kernel(tools, CACHE)
    initrd = folder / "initrd"
    write_initrd(initrd, tools, kernel, open_site_packages(tools, CACHE), ())
    add_canary_program(initrd, kernel)
    return GuestConfig(
        tools=TOOLS,
        folder=folder / "guest",
        boot=DirectBoot(kernel=kernel.image, initrd=initrd, command_line=COMMAND_LINE),
        accelerator=Accelerator.TCG,
        memory_mib=MEMORY_MIB,
        firmware=ovmf(TOOLS),
        disks=(Disk(path=create_sparse_disk(folder / "disk", DISK_BYTES), serial="disk"),),
        network=UserNetwork(),
    )


def add_canary_program(initrd: Path, kernel: GuestKernel) -> None:
    """Append an archive; the kernel unpacks it over the first, whose /init it replaces."""
    with initrd.open("ab") as file:
        archive = CpioWriter(file)
        modules = plan_modules(kernel, MODULES)
        for path in modules:
            archive.add_file(f"/canary-modules/{path.name}", path)
        names = "".join(f"{path.name}\n" for path in modules)
        archive.add_data("/canary-modules/order", names.encode())
        program = Path(canary_init.__file__).read_bytes()
        archive.add_data("/init", b"#!/usr/bin/python3.13 -I\n" + program, 0o755)
        archive.finish()


def test_guest_wrote_to_every_sink(leaks: Leaks) -> None:
    assert leaks.failed == {}
    assert {*canary_init.WAYS, "vsock"} == {*TEXT_SINKS, "pvpanic"} == leaks.sinks.keys()


@pytest.mark.parametrize("name", TEXT_SINKS)
def test_canary_is_found_in_its_sink_in_every_form_and_in_no_other(leaks: Leaks, name: str) -> None:
    hits = find_canaries(leaks.canaries, (leaks.sinks[name],))
    assert set(hits) == {Hit(sink=name, canary=name, encoding=encoding) for encoding in Encoding}
    assert leaks.sinks[name].bytes_seen() >= len(every_form(leaks.canaries[name]))


def test_both_panic_devices_are_heard(leaks: Leaks) -> None:
    """The first by its port, the second by the kernel's driver when the kernel panics."""
    assert leaks.sinks["pvpanic"].bytes_seen() == 2


def test_panic_of_a_kernel_that_may_speak_is_seen_on_its_console(leaks: Leaks) -> None:
    text = b"".join(leaks.sinks["serial"].pieces())
    assert b"Kernel panic - not syncing: sysrq triggered crash" in text
    assert leaks.end is EndReason.RESET  # what the real image's endings are compared with


def test_panic_of_a_kernel_that_may_store_is_seen_among_the_variables(leaks: Leaks) -> None:
    record = read_record("no such firmware")
    keys = leaks.guest.files.variable_sink(record).changed_keys()
    assert any(key.startswith("dump-type0-") for key in keys), sorted(keys)
