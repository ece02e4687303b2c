"""From the options of `boot` to a guest: judged together, and what it needs on the disk is made.

An OCI container's guest is planned here, too, by options that the runtime puts together.
"""

import argparse
from dataclasses import replace
from typing import Final

from host_runtime.commands.boot_files import (
    claim_folder,
    parse_disks,
    require_file,
    require_new_folder,
)
from host_runtime.commands.tee_options import (
    choose_tee,
    require_consistent_tee,
    require_host,
)
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.launch.launcher import GuestConfig, VsockKind, plan_launch
from host_runtime.machine.accelerator import choose_accelerator
from host_runtime.machine.esp import create_esp
from host_runtime.machine.qemu import Accelerator, DirectBoot, EspBoot, Firmware, UserNetwork
from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from host_runtime.machine.tee import SnpGuest, TdxGuest
from host_runtime.machine.uki_file import require_uki
from host_runtime.network.interface import PodInterface, find_interface
from host_runtime.plane.transport import is_kernel_vsock_usable
from host_runtime.programs.tools import Tools
from measured_boot.command_line.usage import UsageError

OVMF_CODE: Final = "usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES: Final = "usr/share/OVMF/OVMF_VARS_4M.fd"
SEABIOS: Final = "usr/share/seabios/bios-256k.bin"


def plan_boot(options: argparse.Namespace) -> GuestConfig:
    """Return the guest that the options of `boot` describe; nothing is made.

    Raises:
        ConfigError: with a reason below `boot`, `tools`, `tee`, `launch`, `cpu_model` or
            `network`.
        FormatError: firmware for a TEE that is not one, with a reason below `firmware`.
    """
    _require_consistent(options)
    require_consistent_tee(options)
    require_new_folder(options.folder)
    tools = Tools(tree=options.tools and options.tools.absolute())
    tee = choose_tee(options)
    return GuestConfig(
        tools=tools,
        folder=options.folder,
        boot=_choose_boot(options),
        accelerator=_choose_accelerator(options, tools, tee),
        memory_mib=options.memory,
        vcpus=options.vcpus,
        firmware=_choose_firmware(options, tools),
        disks=parse_disks(options.disk),
        network=_plan_network(options),
        tpm=None if options.tpm is None else VirtualTpm(folder=options.tpm.absolute()),
        vsock=_choose_vsock(options.vsock),
        guest_cid=options.cid,
        kbs=options.kbs,
        tee=tee,
        keeps_output=not options.discard_output,
    )


def prepare_boot(options: argparse.Namespace) -> GuestConfig:
    """Plan a guest and make what it needs on the disk; return the plan.

    Everything is checked first, so a refusal leaves nothing behind.

    Raises:
        ConfigError, FormatError: as `plan_boot`; or the host cannot run such a guest.
        ChildError: a program that makes a disk or the vTPM failed.
    """
    config = plan_boot(options)
    plan_launch(config)  # checks that QEMU and its files are there
    if config.tpm is not None:
        config.tools.command("swtpm")
        if config.tpm.folder.exists():
            config.tpm.require_whole()
            config.tpm.require_free()
    require_host(config.tee, config.accelerator, config.tools)
    for path in (options.uki, options.kernel, options.initrd):
        if path is not None:
            require_file(path)
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
    return config


def with_pod_interface(config: GuestConfig, options: argparse.Namespace) -> GuestConfig:
    """Give a guest that is planned the interface of this process's network namespace.

    This is `--network pod` where the namespace had none when the guest was planned. So its options
    are judged again: some do not go with an interface.

    Raises:
        ConfigError: as `find_interface`; UsageError: with a reason below `boot`.
    """
    _require_consistent(options)
    return replace(config, network=find_interface())


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
    ports = [forward.host_port for forward in options.forward]
    for port in ports:
        if ports.count(port) > 1:
            raise UsageError("boot.forward", f"port {port} of this machine is forwarded twice")
    if options.tpm is not None and options.tpm.absolute() == options.folder.absolute():
        raise UsageError(
            "boot.folder", f"{options.tpm}: name one folder for the vTPM, one for logs"
        )
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


def _have_tpm_made(tools: Tools, tpm: VirtualTpm) -> None:
    try:
        manufacture_tpm(tools, tpm.folder)
    except FileExistsError:
        if not tpm.folder.exists():  # something else is in the way
            raise
        tpm.require_whole()  # made by another boot meanwhile; only one of them can start it


def _choose_firmware(options: argparse.Namespace, tools: Tools) -> Firmware | None:
    """Return the operator's file, which only a TEE has, else OVMF; None is SeaBIOS."""
    if options.firmware is not None:
        return Firmware(code=options.firmware)
    return ovmf(tools) if options.uki is not None or options.ovmf else None


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


def _plan_network(options: argparse.Namespace) -> UserNetwork | PodInterface | None:
    if options.network == "none":
        return None
    if options.network == "pod":
        return find_interface()
    return UserNetwork(
        is_restricted=options.network == "restricted", host_forwards=tuple(options.forward)
    )


def _choose_vsock(name: str) -> VsockKind:
    if name == "auto":
        return VsockKind.KERNEL if is_kernel_vsock_usable() else VsockKind.USER
    return VsockKind(name)
