"""A virtual machine as a value, and the QEMU arguments that make it. Pure: it starts nothing.

There is one machine type: q35, no defaults, no display. Every console-like device that a guest
could leak through is present, and ends in a file or nowhere (`SinkFiles`). Written for QEMU >= 10.
`host_runtime.launch.launcher` starts it.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never

from host_runtime.machine.tee import TEE_ID, SnpGuest, TdxGuest, plan_tee_object


class Accelerator(StrEnum):
    """What runs the guest's instructions; `host_runtime.machine.accelerator` chooses."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """OVMF: its code, shared, and this guest's own copy of its variables.

    A TEE measures one file and has no place for variables: there `variables` is None.
    """

    code: Path
    variables: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EspBoot:
    """The firmware boots the UKI on a disk made by `host_runtime.machine.esp`; needs `Firmware`."""

    image: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectBoot:
    """QEMU hands over kernel, initrd and command line; SeaBIOS, or `Firmware` if it is given."""

    kernel: Path
    initrd: Path
    command_line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One raw image as virtio-blk.

    Attributes:
        is_device: it is a block device of the host's, and no file.
    """

    path: Path
    serial: str
    is_read_only: bool = False
    is_device: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostForward:
    """A TCP port on the host's loopback that leads to a port of the guest."""

    host_port: int
    guest_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestForward:
    """An address that the guest can reach although its network is restricted.

    `command` runs once per connection, with the connection as its input and output.
    """

    address: str
    port: int
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNetwork:
    """QEMU's user-mode network: guest 10.0.2.15/24, gateway 10.0.2.2, DNS 10.0.2.3.

    Restricted, the guest reaches nothing but its `guest_forwards`.
    """

    mac: str = "52:54:00:cc:00:01"
    is_restricted: bool = True
    host_forwards: tuple[HostForward, ...] = ()
    guest_forwards: tuple[GuestForward, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TapNetwork:
    """A tap device that QEMU makes in its own network namespace, as yet connected to nothing."""

    mac: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserVsock:
    """A vsock device in our own process, reached at `socket`."""

    socket: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelVsock:
    """The host kernel's vsock device; no bytes can be captured."""

    guest_cid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFiles:
    """Where the output of each console-like device goes, and what is kept for the platform."""

    serial: Path
    console: Path
    debugcon: Path
    firmware_debug: Path
    network: Path
    error_records: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """Everything that the QEMU command line depends on. Without `sinks` output is discarded."""

    memory_mib: int
    vcpus: int
    accelerator: Accelerator
    boot: EspBoot | DirectBoot
    qmp_socket: Path
    sinks: SinkFiles | None
    vsock: UserVsock | KernelVsock
    firmware: Firmware | None = None
    disks: tuple[Disk, ...] = ()
    network: UserNetwork | TapNetwork | None = None
    tpm_socket: Path | None = None
    serial_number: str = ""
    data_folders: tuple[Path, ...] = ()
    tee: SnpGuest | TdxGuest | None = None


_FIRMWARE_DEBUG_PORT: Final = "0x402"
_DEBUGCON_PORT: Final = "0xe9"
_ERROR_RECORDS_SIZE: Final = "64K"
# Else QEMU pauses a guest when a disk image finds no room on the host, until somebody makes some.
_ON_DISK_ERROR: Final = "werror=report,rerror=report"


def plan_command(config: MachineConfig) -> tuple[str, ...]:
    """Return QEMU's arguments for `config`, without the program itself.

    The machine waits for `cont` on QMP, so that no event is missed.
    """
    return (
        *_machine(config),
        *_boot(config),
        *_sinks(config.sinks),
        *_disks(config.disks),
        *_network(config.network, None if config.sinks is None else config.sinks.network),
        *_tpm(config.tpm_socket),
        *_vsock(config.vsock),
        *(_error_records(config.sinks) if config.tee is None else ()),
    )


def cpu_model(accelerator: Accelerator) -> str:
    """Return the processor model that goes with `accelerator`."""
    match accelerator:
        case Accelerator.KVM:
            return "host"
        case Accelerator.TCG:
            # Emulated, a string instruction goes byte by byte, and slower still over pages whose
            # code has run. Without these flags the kernel clears and copies by words.
            return "max,-erms,-fsrm,-fsrs"


def _machine(config: MachineConfig) -> tuple[str, ...]:
    machine = "q35,memory-backend=memory,vmport=off"
    if config.tee is not None:
        machine += f",confidential-guest-support={TEE_ID}"
        if isinstance(config.tee, TdxGuest):
            machine += ",kernel-irqchip=split"
    elif config.firmware is not None:
        machine += ",pflash0=firmware,pflash1=variables"
    spawns = isinstance(config.network, UserNetwork) and bool(config.network.guest_forwards)
    model = cpu_model(config.accelerator)
    if isinstance(config.tee, SnpGuest):  # which measures its signature: named, and not the host's
        model = config.tee.cpu_model
    return (
        *("-name", "ccinit-guest"),
        *("-no-user-config", "-nodefaults", "-display", "none"),
        *(argument for folder in config.data_folders for argument in ("-L", str(folder))),
        # A forward's program is started with setsid(), which counts as an elevation there.
        *("-sandbox", "on" if spawns else "on,elevateprivileges=deny,spawn=deny"),
        *("-machine", machine),
        *("-accel", config.accelerator.value),
        *("-cpu", model),
        *("-smp", str(config.vcpus)),
        *("-m", f"{config.memory_mib}M"),
        *("-object", f"memory-backend-memfd,id=memory,size={config.memory_mib}M,share=on"),
        *(() if config.tee is None else ("-object", plan_tee_object(config.tee))),
        "-no-reboot",  # a guest always ends by a reset, whatever the reason
        *(
            ("-smbios", f"type=1,serial={quoted(config.serial_number)}")
            if config.serial_number
            else ()
        ),
        "-S",
        *("-chardev", f"socket,id=qmp,path={quoted(config.qmp_socket)},server=on,wait=off"),
        *("-qmp", "chardev:qmp"),  # -mon is deprecated in QEMU 11.1
    )


def _boot(config: MachineConfig) -> tuple[str, ...]:
    arguments = _firmware(config)
    match config.boot:
        case EspBoot(image=image):
            if config.firmware is None:
                raise ValueError("a UKI needs firmware to boot it")
            return (
                *arguments,
                *("-blockdev", _file_node("esp", image, is_read_only=True)),
                # For the firmware only: the guest's kernel loads no SCSI driver, so the disk that
                # carries its own boot file is not one of the disks that it has to explain.
                *("-device", "virtio-scsi-pci,id=scsi"),
                *("-device", "scsi-hd,drive=esp,bus=scsi.0,bootindex=0"),
            )
        case DirectBoot(kernel=kernel, initrd=initrd, command_line=command_line):
            return (
                *arguments,
                *("-kernel", str(kernel), "-initrd", str(initrd)),
                *("-append", command_line),
            )
        case _:
            assert_never(config.boot)


def _firmware(config: MachineConfig) -> tuple[str, ...]:
    if config.firmware is None:
        return ()
    if config.firmware.variables is None:
        return ("-bios", str(config.firmware.code))
    return (
        *("-blockdev", _file_node("firmware", config.firmware.code, is_read_only=True)),
        *("-blockdev", _file_node("variables", config.firmware.variables)),
    )


def _sinks(sinks: SinkFiles | None) -> tuple[str, ...]:
    return (
        *_output("serial", None if sinks is None else sinks.serial),
        *("-device", "isa-serial,chardev=serial"),
        *_output("console", None if sinks is None else sinks.console),
        *("-device", "virtio-serial-pci,max_ports=2"),
        *("-device", "virtconsole,chardev=console"),
        *_output("debugcon", None if sinks is None else sinks.debugcon),
        *("-device", f"isa-debugcon,iobase={_DEBUGCON_PORT},chardev=debugcon"),
        *_output("firmware-debug", None if sinks is None else sinks.firmware_debug),
        # Firmware looks for 0xe9 on this port before it prints there, and what it prints depends on
        # the machine's layout: with another answer it stays silent, and the guest is still heard.
        *(
            "-device",
            f"isa-debugcon,iobase={_FIRMWARE_DEBUG_PORT},readback=0,chardev=firmware-debug",
        ),
        *("-device", "pvpanic", "-device", "pvpanic-pci"),
    )


def _error_records(sinks: SinkFiles | None) -> tuple[str, ...]:
    """Let a kernel that panics find a store for it in ACPI's tables (ERST).

    Last, so that no other device has another place with it than without. Nobody has tried it on a
    machine with a TEE, so it is not there.
    """
    memory = f"id=error-records,size={_ERROR_RECORDS_SIZE}"
    if sinks is None:
        store = f"memory-backend-ram,{memory}"
    else:
        store = f"memory-backend-file,{memory},mem-path={quoted(sinks.error_records)},share=on"
    return ("-object", store, "-device", "acpi-erst,memdev=error-records")


def _disks(disks: tuple[Disk, ...]) -> tuple[str, ...]:
    arguments: list[str] = []
    for number, disk in enumerate(disks):
        node = _file_node(
            f"disk{number}",
            disk.path,
            is_read_only=disk.is_read_only,
            driver="host_device" if disk.is_device else "file",
        )
        device = f"virtio-blk-pci,drive=disk{number},serial={quoted(disk.serial)}"
        arguments += ("-blockdev", node, "-device", f"{device},{_ON_DISK_ERROR}")
    return tuple(arguments)


def _network(network: UserNetwork | TapNetwork | None, capture: Path | None) -> tuple[str, ...]:
    match network:
        case None:
            return ()
        case UserNetwork():
            backend = _user_backend(network)
        case TapNetwork(name=name):
            backend = f"tap,id=net,ifname={quoted(name)},script=no,downscript=no"
        case _:
            assert_never(network)
    card = ("-netdev", backend, "-device", f"virtio-net-pci,netdev=net,mac={network.mac},romfile=")
    if capture is None:
        return card
    dump = f"filter-dump,id=dump,netdev=net,file={quoted(capture)},maxlen=262144"
    return (*card, "-object", dump)


def _user_backend(network: UserNetwork) -> str:
    backend = f"user,id=net,ipv6=off,restrict={'on' if network.is_restricted else 'off'}"
    for forward in network.host_forwards:
        backend += f",hostfwd=tcp:127.0.0.1:{forward.host_port}-:{forward.guest_port}"
    for target in network.guest_forwards:
        command = " ".join(word.replace(",", ",,") for word in target.command)
        backend += f",guestfwd=tcp:{target.address}:{target.port}-cmd:{command}"
    return backend


def _tpm(control_socket: Path | None) -> tuple[str, ...]:
    if control_socket is None:
        return ()
    return (
        *("-chardev", f"socket,id=tpm,path={quoted(control_socket)}"),
        *("-tpmdev", "emulator,id=tpm,chardev=tpm"),
        *("-device", "tpm-crb,tpmdev=tpm"),
    )


def _vsock(vsock: UserVsock | KernelVsock) -> tuple[str, ...]:
    match vsock:
        case UserVsock(socket=path):
            return (
                *("-chardev", f"socket,id=vsock,path={quoted(path)}"),
                *("-device", "vhost-user-vsock-pci,chardev=vsock"),
            )
        case KernelVsock(guest_cid=cid):
            return ("-device", f"vhost-vsock-pci,guest-cid={cid}")
        case _:
            assert_never(vsock)


def _output(name: str, path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ("-chardev", f"null,id={name}")
    return ("-chardev", f"file,id={name},path={quoted(path)}")


def _file_node(name: str, path: Path, *, is_read_only: bool = False, driver: str = "file") -> str:
    mode = "on" if is_read_only else "off"
    file = f"file.driver={driver},file.filename={quoted(path)}"
    return f"driver=raw,node-name={name},read-only={mode},{file}"


def quoted(value: Path | str) -> str:
    """Return a value as it stands in a list of QEMU's options, where commas separate."""
    return str(value).replace(",", ",,")
