"""The commands `host-runtime boot` and `record`: their arguments, and what they do.

Calls to a running guest are `host_runtime.cli`'s.
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError, DeadlineError
from host_runtime.commands.boot_plan import SEABIOS, plan_boot, prepare_boot
from host_runtime.commands.tee_options import add_tee
from host_runtime.host_view.firmware_text import (
    FirmwareRecord,
    firmware_name,
    read_record,
    write_record,
)
from host_runtime.host_view.sinks import report_bytes
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.launch.launcher import GuestConfig, boot_guest, plan_launch
from host_runtime.launch.network_offer import offer_options
from host_runtime.machine.qemu import HostForward
from host_runtime.network.interface import PodInterface
from host_runtime.plane.exit_watch import ExitWatch
from host_runtime.plane.rpc_client import Hello
from host_runtime.relay.kbs import parse_kbs_address
from measured_boot.command_line.argument_types import seconds, whole_number
from measured_boot.command_line.errors import tell
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.tcp_address import parse_port
from measured_boot.command_line.termination import orderly_termination
from measured_boot.command_line.usage import as_word

GUEST_CID: Final = whole_number(3, 0xFFFF_FFFE)  # lower ones and the last are not for guests
_MEMORY_MIB: Final = whole_number(1, 1 << 24)
_VCPUS: Final = whole_number(1, 4096)  # QEMU's limit for q35
_YEAR_SECONDS: Final = 365 * 86400.0


def add_boot(commands: Subparsers) -> None:
    """Add `boot`."""
    summary = (
        "Boot a guest, wait for its hello, and stay until it ends; then say as JSON how it ended, "
        "and its pod's exit code if the guest told that."
    )
    parser = add_command(commands, "boot", summary)
    add_boot_arguments(parser)
    parser.set_defaults(func=_boot)


def add_boot_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a boot, which the OCI runtime's `boot` entries take as well."""
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="new folder for logs and everything the host sees",
    )
    add(
        "--tools",
        type=Path,
        metavar="FOLDER",
        help="tools tree (default: the host's installed programs)",
    )
    add("--uki", type=Path, metavar="FILE", help="boot this unified kernel image through OVMF")
    add("--kernel", type=Path, metavar="FILE", help="boot this kernel directly")
    add("--initrd", type=Path, metavar="FILE", help="with --kernel: its initrd")
    add("--command-line", default="", metavar="TEXT", help="with --kernel: its command line")
    add("--ovmf", action="store_true", help="with --kernel: through OVMF, not SeaBIOS")
    add("--memory", type=_MEMORY_MIB, default=512, metavar="MIB", help="memory (default: 512)")
    add("--vcpus", type=_VCPUS, default=1, metavar="N", help="processors (default: 1)")
    add(
        "--accelerator",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="auto: KVM where it works, else emulation (default)",
    )
    _add_devices(parser)
    add(
        "--hello-seconds",
        type=seconds(0, _YEAR_SECONDS),
        default=120.0,
        metavar="SECONDS",
        help="end a guest that has not said hello after so long; 0: do not wait, and never call it "
        "(default: 120)",
    )
    add(
        "--seconds",
        type=seconds(0, _YEAR_SECONDS),
        default=math.inf,
        help="end the guest so long after its hello (default: it ends itself)",
    )
    add_tee(parser)


def _add_devices(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--disk",
        action="append",
        default=[],
        metavar="PATH[:ro]",
        help="raw image, or block device that nobody else uses; may be repeated",
    )
    add("--tpm", type=Path, metavar="FOLDER", help="a vTPM; made if the folder does not exist")
    add(
        "--network",
        choices=("none", "restricted", "open", "pod"),
        default="none",
        help="open: QEMU's user network; restricted: only its forwards; pod: the "
        "interface of the network namespace that this runs in (default: none)",
    )
    add(
        "--forward",
        action="append",
        type=as_word(_parse_forward),
        default=[],
        metavar="HOST:GUEST",
        help="forward TCP port HOST of 127.0.0.1 to port GUEST of the guest; may be repeated",
    )
    add(
        "--vsock",
        choices=("user", "kernel", "auto"),
        default="user",
        help="vsock device. user: our own, the only one whose bytes are captured (default); "
        "kernel: /dev/vhost-vsock; auto: kernel where that works, else user",
    )
    add(
        "--discard-output",
        action="store_true",
        help="keep nothing of what the guest writes to consoles, vsock and network; "
        "without this option these files grow without limit",
    )
    add(
        "--kbs",
        type=as_word(parse_kbs_address),
        metavar="HOST:PORT",
        help="carry the guest's vsock connections to this KBS",
    )
    add("--cid", type=GUEST_CID, default=3, help="the guest's CID (default: 3)")


def _parse_forward(text: str) -> HostForward:
    host, _, guest = text.partition(":")
    ports = parse_port(host), parse_port(guest)
    if not ports[0] or not ports[1]:
        raise ConfigError("boot.forward", f"expected HOST:GUEST, two TCP ports, found {text!r}")
    return HostForward(host_port=ports[0], guest_port=ports[1])


def add_record(commands: Subparsers) -> None:
    """Add `record`."""
    summary = "Record what firmware itself prints and stores, from a boot of a silent guest."
    parser = add_command(commands, "record", summary)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the folder of that guest's boot"
    )
    parser.add_argument(
        "firmware", type=Path, metavar="FILE", help="the firmware's code that was booted"
    )
    parser.set_defaults(func=_record)


def _boot(options: argparse.Namespace) -> int:
    if options.print:
        print("\n".join(plan_launch(plan_boot(options))))
        return 0
    with orderly_termination():
        config = prepare_boot(options)
        guest, reason, exit_code = _boot_and_wait(config, options)
    report: dict[str, object] = {"ended": reason.value, "exit_code": exit_code}
    try:
        if config.keeps_output:
            report["sinks"] = _count_output(config, guest.files)
    finally:  # report how it ended even if its output cannot be read
        print(json.dumps(report), flush=True)
    guest.require_sound_end()
    return 0


def _count_output(config: GuestConfig, files: GuestFiles) -> Mapping[str, int]:
    network = config.network
    sinks = files.all_sinks(
        firmware=firmware_name(_firmware_code(config)),
        disks=config.disks,
        mac=None if network is None else network.mac,
    )
    return report_bytes(sinks)


def _firmware_code(config: GuestConfig) -> Path:
    return config.tools.path(SEABIOS) if config.firmware is None else config.firmware.code


def _boot_and_wait(
    config: GuestConfig, options: argparse.Namespace
) -> tuple[Guest, EndReason, int | None]:
    """Boot a guest; return it with how it ended, and its pod's exit code if the guest told it."""
    try:
        with boot_guest(config, _say) as guest:
            where = f"`host-runtime state --guest {options.folder}` asks where it is"
            if not options.hello_seconds:
                _say(f"the guest runs; {where}")
                return guest, guest.wait_for_end(options.seconds), None
            _say("the guest runs; it answers nobody before its hello")
            hello = _wait_for_hello(guest, options.hello_seconds)
            _say(f"hello from build {hello.build_id.hex()}; {where}")
            if isinstance(config.network, PodInterface):
                _say(
                    f"its network: `host-runtime offer-network --guest {options.folder}"
                    f" {offer_options(config.network)}`, and --dns"
                )
            watch = ExitWatch(guest.client)
            watch.start()
            return guest, guest.wait_for_end(options.seconds), watch.finish()
    except (KeyboardInterrupt, SystemExit):
        _say("the guest was ended")
        raise


def _wait_for_hello(guest: Guest, seconds: float) -> Hello:
    try:
        return guest.wait_for_hello(seconds)
    except DeadlineError as error:
        advice = "its image does not start, or is slower than --hello-seconds"
        raise DeadlineError(error.reason, f"{error.detail}: {advice}") from error


def _record(options: argparse.Namespace) -> int:
    record = read_record(firmware_name(options.firmware))
    files = GuestFiles(folder=options.folder)
    if not files.sinks.serial.is_file():  # else any folder would be recorded as silent firmware
        raise ConfigError("record.folder", f"{options.folder} is not the folder of a boot")
    empty = FirmwareRecord(firmware=record.firmware, texts={}, variables=frozenset())
    contents = {sink.name: sink.content() for sink in files.text_sinks(empty)}
    keys = files.variable_sink(empty).changed_keys()
    print(f"host-runtime: recorded in {write_record(record.with_boot(contents, keys))}")
    return 0


def _say(text: str) -> None:
    tell("host-runtime", text)
