"""Direct boots of the real image, as its builder publishes it: the shortest way to its host plane.

SeaBIOS starts the kernel; the root is a read-only disk under dm-verity. What is measured on this
way is nobody's reference, so a KBS would refuse: whole chains boot the UKI (`tests.chain.world`),
and `tests.vm.measured_boots` goes by OVMF.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.initdata.document import encode_device_image
from ccinit.formats.planes.host_rpc import Phase
from guest_owner.commands.initdata import make_document
from guest_owner.sealed_log.key import LogKey, new_log_key
from host_runtime.commands.boot_plan import SEABIOS
from host_runtime.host_view.firmware_text import firmware_name
from host_runtime.host_view.sinks import Sink
from host_runtime.launch.guest import Guest
from host_runtime.launch.launcher import GuestConfig, boot_guest
from host_runtime.machine.qemu import Accelerator, DirectBoot, Disk, UserNetwork
from host_runtime.machine.swtpm import VirtualTpm
from host_runtime.plane.rpc_client import GuestState
from host_runtime.programs.tools import Tools
from measured_boot.tpm.direct_line import line_of_kernel
from tests.chain.host_view import absent_records
from tests.integration.pull.real_registry import make_authority
from tests.vm.harness.boots import record_boot

TOOLS = Tools(tree=Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
IMAGES = Path("build/image")
HELLO_SECONDS = 120.0
END_SECONDS = 90.0
BOOT_TEST_SECONDS = 1800
"""Limit of a test whose fixtures may have to build the image first."""

_BUILD_SECONDS = 1500
_WAIT_MS = 10_000
_END_EVENTS = frozenset({"SHUTDOWN", "RESET", "POWERDOWN", "STOP", "SUSPEND", "WATCHDOG"})
_SILENT_SINKS = frozenset(
    {"serial", "console", "debugcon", "firmware_debug", "pvpanic", "pstore", "erst"}
)

_CONFIG = """version = 1

[kbs]
url = "https://10.0.2.100:8443"
ca = {ca}
envelope = "required"

[log]
public_key = "{log_key}"

[limits]
network_seconds = {network_seconds}
attest_seconds = 180
"""
_MANIFEST = f"""version = 1
name = "direct"

[[image]]
name = "none"
reference = "10.0.2.101:5000/none@sha256:{"0" * 64}"
ca = {{ca}}

[[container]]
name = "none"
image = "none"

[[volume]]
name = "scratch"
kind = "scratch"
size_bytes = 1073741824
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectImage:
    """The published files of one profile that a direct boot takes.

    Attributes:
        command_line: as the kernel has to see it; OVMF adds its last word itself.
    """

    kernel: Path
    initrd: Path
    command_line: str
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedInitdata:
    """A measured document on its disk, and the private key of the log that it names."""

    document: bytes
    disk: Path
    log_key: LogKey


def build_image(profile: str) -> DirectImage:
    """Build the image if it is not up to date; return what a direct boot takes."""
    command = (Path(sys.executable).with_name("rootfs-builder"), "image", "--profile", profile)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    stem = IMAGES / f"ccinit-{profile}"
    return DirectImage(
        kernel=stem.with_suffix(".vmlinuz"),
        initrd=stem.with_suffix(".direct.initrd"),
        command_line=line_of_kernel(stem.with_suffix(".direct.cmdline").read_text()),
        root=stem.with_suffix(".root.erofs"),
    )


def make_initdata(
    folder: Path, *, network_seconds: int = 900, algorithm: str = "sha256"
) -> PreparedInitdata:
    """Write a document that the guest accepts; the KBS that it names is reached by no guest here.

    Args:
        folder: where the disk image and a certificate authority go.
        network_seconds: how long the guest waits for the host's network offer.
        algorithm: by which the platform holds the document.
    """
    key = new_log_key()
    ca_pem = make_authority(folder / "authority").ca_pem
    config = _CONFIG.format(
        ca=json.dumps(ca_pem), log_key=key.public_text, network_seconds=network_seconds
    )
    document = make_document(config, _MANIFEST.format(ca=json.dumps(ca_pem)), algorithm)
    disk = folder / "initdata.img"
    disk.write_bytes(encode_device_image(document))
    return PreparedInitdata(document=document, disk=disk, log_key=key)


def plan_guest(
    image: DirectImage,
    folder: Path,
    *,
    tpm: VirtualTpm | None = None,
    initdata_disks: tuple[Path, ...],
    command_line: str | None = None,
    serial_number: str = "",
) -> GuestConfig:
    """Describe a guest with the root's disk and these initdata disks."""
    disks = (image.root, *initdata_disks)
    return GuestConfig(
        tools=TOOLS,
        folder=folder,
        boot=DirectBoot(
            kernel=image.kernel,
            initrd=image.initrd,
            command_line=command_line or image.command_line,
        ),
        accelerator=Accelerator.TCG,
        disks=tuple(
            Disk(path=path, serial=f"disk{number}", is_read_only=True)
            for number, path in enumerate(disks)
        ),
        network=UserNetwork(),
        tpm=tpm,
        serial_number=serial_number,
    )


@contextmanager
def recorded_guest(config: GuestConfig, name: str) -> Iterator[Guest]:
    """Boot a guest and count the boot under `name`."""
    began = time.monotonic()
    try:
        with boot_guest(config) as guest:
            yield guest
    finally:
        record_boot(name, time.monotonic() - began)


def wait_for_phase(guest: Guest, phase: Phase, seconds: float) -> GuestState:
    """Return the first state at `phase` or behind it."""
    deadline = time.monotonic() + seconds
    with guest.client() as client:
        state = client.state()
        while state.phase < phase:
            assert time.monotonic() < deadline, f"still {state.phase.name} after {seconds} s"
            state = client.wait(state.sequence, _WAIT_MS)
        return state


def follow_to_the_end(guest: Guest) -> tuple[tuple[GuestState, ...], bytes]:
    """Collect the sealed stream to its end, and ask for the state beside it.

    Returns:
        Every state that was seen, and the whole stream.
    """
    states: list[GuestState] = []
    stream = bytearray()
    try:
        with guest.client() as client, guest.client() as observer:
            for chunk in client.collect(wait_ms=1000):
                stream += chunk.blob
                states.append(observer.state())
            while True:
                states.append(observer.wait(states[-1].sequence, _WAIT_MS))
    except CcinitError:
        return tuple(states), bytes(stream)  # it is gone, which is what it was asked for


ONE_END = [{"guest": True, "reason": "guest-reset"}]
"""What every end of a guest is to QEMU, whatever its cause."""


def end_events(guest: Guest) -> list[object]:
    """Return the data of every event that tells of an end; pvpanic's are among the sinks."""
    events = [json.loads(line) for line in guest.files.events.read_bytes().splitlines()]
    return [event["data"] for event in events if event["event"] in _END_EVENTS]


def guest_sinks(guest: Guest, config: GuestConfig) -> tuple[Sink, ...]:
    """Return every sink of a guest, without what its firmware itself is known to say.

    Each is there: one that nobody has recorded would be silent, whatever was said.
    """
    assert config.network is not None
    assert absent_records(guest.files) == ()
    code = TOOLS.path(SEABIOS) if config.firmware is None else config.firmware.code
    return guest.files.all_sinks(
        firmware=firmware_name(code), disks=config.disks, mac=config.network.mac
    )


def console_bytes(sinks: tuple[Sink, ...]) -> dict[str, int]:
    """Return the sinks that must stay silent and are not, with what they got."""
    seen = {sink.name: sink.bytes_seen() for sink in sinks if sink.name in _SILENT_SINKS}
    assert seen.keys() == _SILENT_SINKS
    return {name: count for name, count in seen.items() if count}
