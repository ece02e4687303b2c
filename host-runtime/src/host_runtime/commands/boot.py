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
from host_runtime.commands.boot_files import (
    claim_folder,
    parse_disks,
    require_file,
    require_new_folder,
)
from host_runtime.commands.tee_options import (
    add_tee,
    choose_firmware,
    choose_tee,
    require_consistent_tee,
    require_host,
)
from host_runtime.host_view.firmware_text import (
    FirmwareRecord,
    firmware_name,
    read_record,
    write_record,
)
from host_runtime.host_view.sinks import report_bytes
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.launch.launcher import (
    EndReason,
    Guest,
    GuestConfig,
    VsockKind,
    boot_guest,
    plan_launch,
)
from host_runtime.launch.network_offer import offer_options
from host_runtime.machine.accelerator import choose_accelerator
from host_runtime.machine.esp import create_esp
from host_runtime.machine.qemu import (
    Accelerator,
    DirectBoot,
    EspBoot,
    Firmware,
    HostForward,
    UserNetwork,
)
from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from host_runtime.machine.tee import SnpGuest, TdxGuest
from host_runtime.machine.uki_file import require_uki
from host_runtime.network.interface import PodInterface, find_interface
from host_runtime.plane.exit_watch import ExitWatch
from host_runtime.plane.rpc_client import Hello
from host_runtime.plane.transport import is_kernel_vsock_usable
from host_runtime.programs.tools import Tools
from host_runtime.relay.kbs import parse_address
from measured_boot.command_line.argument_types import seconds, whole_number
from measured_boot.command_line.errors import tell
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.tcp_address import parse_port
from measured_boot.command_line.termination import orderly_termination
from measured_boot.command_line.usage import UsageError, as_word

OVMF_CODE: Final = "usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES: Final = "usr/share/OVMF/OVMF_VARS_4M.fd"
SEABIOS: Final = "usr/share/seabios/bios-256k.bin"

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
    add("folder", type=Path, help="new folder for logs and everything the host sees")
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
        help="raw image, or block device that nobody else uses; repeatable",
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
        help="forward TCP port HOST of 127.0.0.1 to port GUEST of the guest; repeatable",
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
        type=as_word(parse_address),
        metavar="HOST:PORT",
        help="carry the guest's vsock connections to this KBS",
    )
    add("--cid", type=GUEST_CID, default=3, help="the guest's CID (default: 3)")


def add_record(commands: Subparsers) -> None:
    """Add `record`."""
    summary = "Record what firmware itself prints and stores, from a boot of a silent guest."
    parser = add_command(commands, "record", summary)
    parser.add_argument("folder", type=Path, help="the folder of that guest's boot")
    parser.add_argument("firmware", type=Path, help="the firmware's code that was booted")
    parser.set_defaults(func=_record)


def _boot(options: argparse.Namespace) -> int:
    if options.print:
        print("\n".join(plan_launch(plan_boot(options))))
        return 0
    with orderly_termination():
        config = plan_boot(options)
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


def plan_boot(options: argparse.Namespace) -> GuestConfig:
    """Return the guest that the options of `boot` describe; make what it needs on the disk.

    Raises:
        ConfigError: with a reason below `boot`, `tools`, `tee`, `launch`, `cpu_model` or
            `network`.
        FormatError: firmware for a TEE that is not one, with a reason below `firmware`.
        ChildError: a program that makes a disk or the vTPM failed.
    """
    _require_consistent(options)
    require_consistent_tee(options)
    require_new_folder(options.folder)
    tools = Tools(tree=options.tools and options.tools.absolute())
    tee = choose_tee(options)
    default = ovmf(tools) if options.uki is not None or options.ovmf else None
    config = GuestConfig(
        tools=tools,
        folder=options.folder,
        boot=_choose_boot(options),
        accelerator=_choose_accelerator(options, tools, tee),
        memory_mib=options.memory,
        vcpus=options.vcpus,
        firmware=choose_firmware(options, tee, default),
        disks=parse_disks(options.disk),
        network=_plan_network(options),
        tpm=None if options.tpm is None else VirtualTpm(folder=options.tpm.absolute()),
        vsock=_choose_vsock(options.vsock),
        guest_cid=options.cid,
        kbs=options.kbs,
        tee=tee,
        keeps_output=not options.discard_output,
    )
    if not options.print:
        _make_files(options, config)
    return config


def _require_consistent(options: argparse.Namespace) -> None:
    """Refuse contradictory options, and those that would be ignored.

    Raises:
        UsageError: with a reason below `boot`.
    """
    if (options.uki is None) == (options.kernel is None):
        raise UsageError("boot.what", "name either --uki or --kernel")
    if options.kernel is not None and options.initrd is None:
        raise UsageError("boot.what", "--kernel needs --initrd")
    if options.kernel is None and (options.initrd or options.command_line or options.ovmf):
        raise UsageError("boot.what", "--initrd, --command-line and --ovmf go with --kernel")
    if options.network in {"none", "pod"} and options.forward:
        raise UsageError("boot.forward", "--forward goes with --network restricted or open")
    if options.network == "pod" and options.kbs is not None:
        # A connection from this namespace would have the guest's address as its source, and the
        # answers would go to the guest.
        raise UsageError("boot.kbs", "--kbs does not go with --network pod: the guest has it all")


def _choose_boot(options: argparse.Namespace) -> EspBoot | DirectBoot:
    if options.kernel is not None:
        return DirectBoot(
            kernel=options.kernel, initrd=options.initrd, command_line=options.command_line
        )
    return EspBoot(image=options.folder.absolute() / "esp.img")


def _make_files(options: argparse.Namespace, config: GuestConfig) -> None:
    """Make what the plan needs; everything is checked first, so a refusal leaves nothing behind."""
    plan_launch(config)  # checks that QEMU and its files are there
    if config.tpm is not None:
        config.tools.command("swtpm")
        if config.tpm.folder.exists():
            config.tpm.require_whole()
    require_host(config.tee, config.accelerator, config.tools)
    for path in (options.uki, options.kernel, options.initrd):
        if path is not None:
            require_file(path, "boot.what")
    if options.uki is not None:
        require_uki(options.uki)
    claim_folder(options.folder)
    try:
        if isinstance(config.boot, EspBoot):
            create_esp(config.tools, options.uki, config.boot.image)
        if config.tpm is not None and not config.tpm.folder.exists():
            _have_tpm_made(config.tools, config.tpm)
    except BaseException:  # the next try may name the same folder
        if isinstance(config.boot, EspBoot):
            config.boot.image.unlink(missing_ok=True)
        GuestFiles(folder=options.folder).events.unlink()  # the claim on the folder
        raise


def _have_tpm_made(tools: Tools, tpm: VirtualTpm) -> None:
    try:
        manufacture_tpm(tools, tpm.folder)
    except FileExistsError:
        if not tpm.folder.exists():  # something else is in the way
            raise
        tpm.require_whole()  # made by another boot meanwhile; only one of them can start it


def _choose_accelerator(
    options: argparse.Namespace, tools: Tools, tee: SnpGuest | TdxGuest | None
) -> Accelerator:
    if options.accelerator != "auto":
        return Accelerator(options.accelerator)
    if options.print and tee is not None:
        return Accelerator.KVM  # of the host that it is planned for
    return choose_accelerator(tools)


def ovmf(tools: Tools) -> Firmware:
    """Return the OVMF of `tools`, with pristine variables."""
    return Firmware(code=tools.path(OVMF_CODE), variables=tools.path(OVMF_VARIABLES))


def _firmware_code(config: GuestConfig) -> Path:
    return config.tools.path(SEABIOS) if config.firmware is None else config.firmware.code


def _plan_network(options: argparse.Namespace) -> UserNetwork | PodInterface | None:
    if options.network == "none":
        return None
    if options.network == "pod":
        return find_interface()
    return UserNetwork(
        is_restricted=options.network == "restricted", host_forwards=tuple(options.forward)
    )


def _parse_forward(text: str) -> HostForward:
    host, _, guest = text.partition(":")
    ports = parse_port(host), parse_port(guest)
    if not ports[0] or not ports[1]:
        raise ConfigError("boot.forward", f"expected HOST:GUEST, two TCP ports, found {text!r}")
    return HostForward(host_port=ports[0], guest_port=ports[1])


def _choose_vsock(name: str) -> VsockKind:
    if name == "auto":
        return VsockKind.KERNEL if is_kernel_vsock_usable() else VsockKind.USER
    return VsockKind(name)


def _say(text: str) -> None:
    tell("host-runtime", text)
