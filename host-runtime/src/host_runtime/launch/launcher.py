"""Boots one guest and ends it: starts vTPM, vsock device and QEMU in order, ends them in reverse.

Whatever happens, the processes that were started here are ended by their own pids and reaped, and
the sockets' folder is removed. The guest's output goes to `SinkFiles`, the processes' to logs
beside them. `host_runtime.machine.qemu` describes the machine, and `host_runtime.launch.guest` what
can be done with a running guest.
"""

import os
import select
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from ccinit.errors import ChildError, DeadlineError, PeerError
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT
from host_runtime.launch.guest import VSOCK_DEVICE, Guest, Progress
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.machine.qemu import (
    Accelerator,
    DirectBoot,
    Disk,
    EspBoot,
    Firmware,
    KernelVsock,
    MachineConfig,
    TapNetwork,
    UserNetwork,
    UserVsock,
    plan_command,
)
from host_runtime.machine.qmp import QmpClient
from host_runtime.machine.swtpm import VirtualTpm
from host_runtime.machine.tee import SnpGuest, TdxGuest
from host_runtime.network.interface import TAP_NAME, PodInterface
from host_runtime.network.tap import joined
from host_runtime.plane.transport import KernelLink, UserLink, VsockLink
from host_runtime.programs.process import (
    OwnedProcess,
    end_of_log,
    python_command,
    python_environment,
    wait_for_listener,
)
from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.programs.tools import Tools
from host_runtime.relay.kbs import KbsAddress, guest_path
from measured_boot.command_line.errors import describe_error

_START_SECONDS: Final = 20.0
_READY_SECONDS: Final = 60.0  # ends a hang: our programs listen within seconds
_QUIT_SECONDS: Final = 5.0
_RELAY: Final = "the relay to the KBS"


class VsockKind(StrEnum):
    """Which vsock device a guest gets. Only `USER` can be captured."""

    USER = "user"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """One guest, as the caller describes it.

    Attributes:
        folder: a folder for this boot's logs and sinks; made if missing, must be empty.
        firmware: OVMF code and *pristine* variables; the guest gets a copy of the latter.
        network: how it is connected; an interface is in the caller's network namespace.
        serial_number: of the machine, as its SMBIOS table has it; production guests never read it.
        kbs: where to carry the guest's vsock connections to its KBS; None carries none.
        tpm: a vTPM made by `host_runtime.machine.swtpm.manufacture_tpm`.
        keeps_output: whether what the guest writes to consoles, vsock and network goes to files,
            whose size only the guest limits; otherwise it is discarded and cannot be searched.
        descriptors: QEMU inherits them, so disks may be named by them, as in /proc/self/fd.
        locks: locked descriptors that QEMU and its helpers inherit, so held while any lives.
    """

    tools: Tools
    folder: Path
    boot: EspBoot | DirectBoot
    accelerator: Accelerator
    memory_mib: int = 512
    vcpus: int = 1
    firmware: Firmware | None = None
    disks: tuple[Disk, ...] = ()
    network: UserNetwork | PodInterface | None = None
    tpm: VirtualTpm | None = None
    vsock: VsockKind = VsockKind.USER
    guest_cid: int = 3
    kbs: KbsAddress | None = None
    serial_number: str = ""
    tee: SnpGuest | TdxGuest | None = None
    keeps_output: bool = True
    descriptors: tuple[int, ...] = ()
    locks: tuple[int, ...] = ()


@contextmanager
def boot_guest(config: GuestConfig, say: Progress = lambda _text: None) -> Iterator[Guest]:
    """Start a guest, yield it, and end whatever is left of it afterwards.

    Raises:
        ChildError: a process did not start; the text holds the end of its output.
        ConfigError: as `joined`.
    """
    files = GuestFiles(folder=config.folder.absolute())
    files.folder.mkdir(parents=True, exist_ok=True)
    if config.firmware is not None and config.firmware.variables is not None:
        _copy_variables(config.firmware.variables, files)
    with ExitStack() as stack:
        sockets = stack.enter_context(open_socket_folder())
        machine = _describe_machine(config, files, sockets)
        link, helpers = _start_devices(config, files, sockets, stack, say)
        command = (*config.tools.command("qemu-system-x86_64"), *plan_command(machine))
        say("starting QEMU")
        qemu = stack.enter_context(
            OwnedProcess(
                command,
                log=files.log("qemu"),
                environment=config.tools.environment(),
                descriptors=(*config.locks, *config.descriptors),
            )
        )
        with explained_by_tpm(files):
            qmp = stack.enter_context(_connect_qmp(machine.qmp_socket, files, qemu))
        if isinstance(config.network, PodInterface):
            say(f"giving the guest the interface {config.network.name}")
            stack.enter_context(joined(config.network))
        guest = Guest(files=files, qemu=qemu, qmp=qmp, link=link, progress=say, helpers=helpers)
        stack.callback(guest.quit)
        let_run(qmp, qemu)
        yield guest


def _start_devices(
    config: GuestConfig, files: GuestFiles, sockets: Path, stack: ExitStack, say: Progress
) -> tuple[VsockLink, Mapping[str, OwnedProcess]]:
    """Start what a guest needs beside QEMU; return its vsock link, and the processes by name."""
    helpers = {}
    if config.tpm is not None:
        say("starting the vTPM")
        tpm = config.tpm.start(
            config.tools,
            control_socket=sockets / "tpm",
            log=files.log("swtpm"),
            locks=config.locks,
            say=say,
        )
        helpers["the vTPM"] = stack.enter_context(tpm)
    link: VsockLink = KernelLink(guest_cid=config.guest_cid)
    if config.vsock is VsockKind.USER:
        say("starting the vsock device")
        link = UserLink(path=sockets / "vsock")
        device = _start_vsock_device(config, files, sockets)
        helpers[VSOCK_DEVICE] = stack.enter_context(device)
        files.vsock_link.symlink_to(sockets / "vsock")
        stack.callback(files.vsock_link.unlink, missing_ok=True)
    if config.kbs is not None:
        say(f"relaying the guest's vsock port {KBS_VSOCK_PORT} to {config.kbs}")
        relay = _start_kbs_relay(config, files, sockets)
        helpers[_RELAY] = stack.enter_context(relay)
    return link, helpers


def plan_launch(config: GuestConfig) -> tuple[str, ...]:
    """Return the whole command that would start this guest's QEMU; nothing is made or started.

    Sockets are shown below the guest's folder; a real boot makes new paths for them.
    """
    program = config.tools.command("qemu-system-x86_64")
    files = GuestFiles(folder=config.folder.absolute())
    machine = _describe_machine(config, files, files.folder / "sockets")
    return (*program, *plan_command(machine))


def _describe_machine(config: GuestConfig, files: GuestFiles, sockets: Path) -> MachineConfig:
    vsock: UserVsock | KernelVsock = KernelVsock(guest_cid=config.guest_cid)
    if config.vsock is VsockKind.USER:
        vsock = UserVsock(socket=sockets / "vhost")
    firmware = config.firmware
    if firmware is not None and firmware.variables is not None:
        firmware = replace(firmware, variables=files.variables)
    return MachineConfig(
        memory_mib=config.memory_mib,
        vcpus=config.vcpus,
        accelerator=config.accelerator,
        boot=config.boot,
        qmp_socket=sockets / "qmp",
        sinks=files.sinks if config.keeps_output else None,
        firmware=firmware,
        disks=config.disks,
        network=_describe_network(config.network),
        tpm_socket=None if config.tpm is None else sockets / "tpm",
        vsock=vsock,
        serial_number=config.serial_number,
        data_folders=config.tools.qemu_folders(),
        tee=config.tee,
    )


def _describe_network(
    network: UserNetwork | PodInterface | None,
) -> UserNetwork | TapNetwork | None:
    if isinstance(network, PodInterface):
        return TapNetwork(mac=network.mac, name=TAP_NAME)
    return network


def _start_vsock_device(config: GuestConfig, files: GuestFiles, sockets: Path) -> OwnedProcess:
    command = (
        *python_command("host_runtime.vsock.device"),
        *("--socket", str(sockets / "vhost"), "--path", str(sockets / "vsock")),
        *("--cid", str(config.guest_cid)),
        *(("--capture", str(files.vsock_capture)) if config.keeps_output else ()),
    )
    return _start_ready(command, files.log("vsock"), VSOCK_DEVICE, config.locks)


def _start_kbs_relay(config: GuestConfig, files: GuestFiles, sockets: Path) -> OwnedProcess:
    place = ("--cid", str(config.guest_cid))
    if config.vsock is VsockKind.USER:
        place = ("--path", str(guest_path(sockets / "vsock")))
    command = (*python_command("host_runtime.relay.kbs"), *place, str(config.kbs))
    return _start_ready(command, files.log("kbs-relay"), _RELAY, config.locks)


def _start_ready(
    command: Sequence[str], log: Path, name: str, locks: tuple[int, ...]
) -> OwnedProcess:
    """Start one of our own programs and return when it listens.

    Raises:
        ChildError: `process.ended`: it ended first; the text holds what it printed.
        DeadlineError: `process.ready`: it did neither in time, and was ended.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as ready:
        try:
            child = OwnedProcess(
                (*command, "--ready", str(writer)),
                log=log,
                environment=python_environment(),
                descriptors=(writer, *locks),
            )
        finally:
            os.close(writer)
        try:
            _await_word(reader, child, name)
            is_ready = bool(ready.read(1))
        except BaseException:  # interrupted while nobody else knows of the child
            child.stop()
            raise
    if not is_ready:  # closed without a word: the process has ended
        child.stop()
        raise ChildError("process.ended", f"{name}: {child.log_tail()}")
    return child


def _await_word(descriptor: int, child: OwnedProcess, name: str) -> None:
    """Wait until there is something to read, or the end of it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(_READY_SECONDS * 1000):
        raise DeadlineError(
            "process.ready",
            f"{name} does not listen after {_READY_SECONDS:g} s, and was ended:"
            f" {child.log_tail()}; is this host out of memory or processors? Try again",
        )


def _copy_variables(pristine: Path, files: GuestFiles) -> None:
    for copy in (files.pristine_variables, files.variables):
        shutil.copyfile(pristine, copy)
        copy.chmod(0o600)


def _connect_qmp(path: Path, files: GuestFiles, qemu: OwnedProcess) -> QmpClient:
    files.events.touch()
    wait_for_listener(path, qemu, _START_SECONDS)
    try:
        return QmpClient(path, files.events)
    except (OSError, PeerError) as error:
        _raise_if_ended(qemu)
        raise ChildError("qmp.connect", f"{path}: {describe_error(error)}") from error


def let_run(qmp: QmpClient, qemu: OwnedProcess) -> None:
    """Start the processors; under SEV-SNP this is what finishes, and measures, the launch.

    Raises:
        ChildError: `process.ended`: QEMU gave up; the text holds the end of its output.
    """
    try:
        qmp.execute("cont")
    except PeerError:
        _raise_if_ended(qemu)
        raise


def _raise_if_ended(qemu: OwnedProcess) -> None:
    """If QEMU has ended or is about to, raise an error with its own words, which say more."""
    with suppress(DeadlineError):
        qemu.wait(_QUIT_SECONDS)
    qemu.require_running()


@contextmanager
def explained_by_tpm(files: GuestFiles) -> Iterator[None]:
    """Add swtpm's words to QEMU's error about the vTPM, which has only an error number.

    With other errors they would mislead: swtpm complains whenever QEMU disconnects.
    """
    try:
        yield
    except ChildError as error:
        log = files.log("swtpm")
        words = end_of_log(log) if log.exists() else ""
        if not words or "tpm" not in error.detail.lower():
            raise
        raise ChildError(error.reason, f"{error.detail}; swtpm: {words}") from error
