"""Which platform this guest runs on: exactly one, or an error that names what was found.

One table decides. It also names platforms without an Attester here, so that a guest on one of them
says so instead of quoting a vTPM that happens to be there, too. Simulated platforms, which prove
nothing, are found only in `test` images (`ccinit.attest.simulated`), if the host asks for one.
There is no fallback: a guest that cannot tell what vouches for it asks for no key.
"""

import os
from typing import Protocol

from ccinit.attest.platform_fd import PlatformFd
from ccinit.errors import ConfigError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.launch_secret import STATEMENT
from ccinit.kernel import tsm
from ccinit.kernel.efi_secret import SECRETS
from ccinit.kernel.tsm import OpenReport
from ccinit.values import frozen, replace

_MAX_TEXT = 256
PANIC_LISTENER = "/proc/sys/kernel/hyperv_record_panic_msg"
"""Exists if the kernel, on a panic, writes registers where the host can read them.

It does so for a host that presents itself as Hyper-V and asks for it, whatever drivers are loaded
(drivers/hv/hv_common.c).
"""


@frozen
class Node:
    """A file that PID 1 opens for a child, which gets only a named descriptor."""

    name: str
    path: str
    writable: bool


@frozen
class Platform:
    """What was found: its name, and how it makes evidence.

    Attributes:
        asked: what else it may turn out to be once its device is asked.
        nodes: files that a child needs for it.
        open_report: requests a report in PID 1, where a child only reads it; else None.
        register: the file through which the event log's register is extended; None if the guest may
            extend none.
        devices: names of other devices that vouch for this guest; see `ccinit.attest.composite`.
    """

    tee: Tee
    asked: tuple[Tee, ...] = ()
    nodes: tuple[Node, ...] = ()
    open_report: OpenReport | None = None
    register: Node | None = None
    devices: tuple[str, ...] = ()


class Signs(Protocol):
    """What a guest can see of its platform."""

    def exists(self, path: str) -> bool:
        """Whether a path exists."""

    def read(self, path: str) -> str:
        """Return the text of a small file, "" if there is none."""

    def tsm_provider(self) -> str:
        """Return the driver that makes reports through configfs-tsm, "" if there is none."""


class KernelSigns:
    """What the kernel shows."""

    def exists(self, path: str) -> bool:
        """See Signs."""
        return os.path.exists(path)

    def read(self, path: str) -> str:
        """See Signs."""
        try:
            with open(path, encoding="ascii") as file:
                return file.read(_MAX_TEXT)
        except (OSError, UnicodeDecodeError):
            return ""

    def tsm_provider(self) -> str:
        """See Signs."""
        return tsm.read_provider()


@frozen
class ByReport:
    """Evidence is a report of configfs-tsm: PID 1 requests it, and a child only reads it.

    Attributes:
        provider: its driver's name there, which is a sign of the platform, too.
        files: other files that a child needs.
        extras: files that a child gets if the kernel has them.
        register: the file of the event log's register, if the kernel has it.
    """

    provider: str
    files: tuple[Node, ...] = ()
    extras: tuple[Node, ...] = ()
    register: str = ""

    def reach(self, tee: Tee, signs: Signs, provider: str) -> Platform | None:
        """Return the platform if `provider` is its driver."""
        if self.provider != provider:
            return None
        if not all(signs.exists(node.path) for node in self.files):
            raise ConfigError("tee.io", f"{tee}: its device is not there")
        extras = tuple(node for node in self.extras if signs.exists(node.path))
        register = None
        if self.register and signs.exists(self.register):
            register = Node(name=PlatformFd.REGISTER, path=self.register, writable=True)
        return Platform(
            tee=tee,
            nodes=(*self.files, *extras),
            open_report=tsm.open_report_entry,
            register=register,
        )


@frozen
class ByFile:
    """Evidence is in a file."""

    file: Node

    def reach(self, tee: Tee, signs: Signs, _provider: str) -> Platform | None:
        """Return the platform if its file exists."""
        return Platform(tee=tee, nodes=(self.file,)) if signs.exists(self.file.path) else None


@frozen
class ByDevice:
    """A child asks a device for evidence.

    Attributes:
        name: of the descriptor.
        paths: its nodes, the best first.
        has_register: whether the event log's register is reached through it.
        beside: the driver in configfs-tsm whose reports vouch for the device.
        open_report: requests such a report in PID 1.
    """

    name: PlatformFd
    paths: tuple[str, ...]
    has_register: bool = False
    beside: str = ""
    open_report: OpenReport | None = None

    def reach(self, tee: Tee, signs: Signs, provider: str) -> Platform | None:
        """Return the platform if a node exists, and also what vouches for it."""
        path = next(filter(signs.exists, self.paths), None)
        if path is None or self.beside not in ("", provider):
            return None
        return Platform(
            tee=tee,
            nodes=(Node(name=self.name, path=path, writable=True),),
            open_report=self.open_report,
            register=Node(name=PlatformFd.REGISTER, path=path, writable=True)
            if self.has_register
            else None,
        )


@frozen
class Row:
    """One platform: how to recognise it, and how it comes to evidence.

    Attributes:
        name: in errors.
        paths: any of them is a sign; the kernel creates it when a driver has found its platform.
        flag: a file that holds `1`.
        comprises: names of rows whose signs this platform shows, too, and which it replaces.
        tee: its verifier, if there is an Attester.
        asked: other platforms that look the same; the device has to say which one it is.
        ways: to evidence, the best first.
        unreachable: says why none of the ways works.
        refusal: says why there is no Attester.
    """

    name: str
    paths: tuple[str, ...] = ()
    flag: str = ""
    comprises: tuple[str, ...] = ()
    tee: Tee | None = None
    asked: tuple[Tee, ...] = ()
    ways: tuple[ByReport | ByFile | ByDevice, ...] = ()
    unreachable: str = "its driver is not there"
    refusal: str = ""

    def shows(self, signs: Signs, provider: str) -> bool:
        """Return whether there is any sign of the platform."""
        return (
            any(map(signs.exists, self.paths))
            or (bool(self.flag) and signs.read(self.flag).strip() == "1")
            or any(isinstance(way, ByReport) and way.provider == provider for way in self.ways)
        )


# Nodes of the first chip: the resource-managed one does not interfere with the kernel's own use,
# and any number of users may open it. Linux makes it for every TPM 2.0; the other takes one user.
_FIRST_TPM = ("/dev/tpmrm0", "/dev/tpm0")

TABLE = (
    Row(
        name="snp",
        paths=("/sys/devices/platform/sev-guest", "/dev/sev-guest"),
        tee=Tee.SNP,
        ways=(
            ByReport(provider=tsm.SEV_GUEST),
            ByDevice(name=PlatformFd.SEV_GUEST, paths=("/dev/sev-guest",)),
        ),
    ),
    Row(
        name="tdx",
        paths=("/dev/tdx_guest", "/sys/devices/virtual/misc/tdx_guest"),
        tee=Tee.TDX,
        ways=(
            ByReport(
                provider=tsm.TDX_GUEST,
                files=(Node(name=PlatformFd.TDX_GUEST, path="/dev/tdx_guest", writable=True),),
                extras=(
                    Node(
                        name=PlatformFd.CCEL,
                        path="/sys/firmware/acpi/tables/data/CCEL",
                        writable=False,
                    ),
                ),
                register="/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384",
            ),
        ),
        unreachable="quotes need configfs-tsm and the tdx_guest driver of Linux 6.7 or later",
    ),
    # SEV and SEV-ES: the secrets that the firmware passed on, through the driver efi_secret.
    Row(
        name="sev",
        paths=(SECRETS,),
        tee=Tee.SEV,
        ways=(
            ByFile(
                file=Node(name=PlatformFd.STATEMENT, path=f"{SECRETS}/{STATEMENT}", writable=False)
            ),
        ),
        unreachable="the owner injected no secret that names the document",
    ),
    Row(
        name="sgx",
        paths=("/dev/attestation/attestation_type", "/dev/sgx_enclave"),
        refusal="an enclave is no guest: what is around it is the host's",
    ),
    Row(
        name="csv",
        paths=("/dev/csv-guest",),
        refusal="its reports and their chain are by SM2 and SM3, which nothing here speaks",
    ),
    Row(
        name="cca",
        paths=("/sys/devices/platform/arm-cca-dev",),
        tee=Tee.CCA,
        ways=(ByReport(provider=tsm.CCA_GUEST),),
        unreachable="tokens need configfs-tsm and the arm_cca_guest driver of Linux 6.13 or later",
    ),
    # Its device is not a sign: a host has it, too.
    Row(
        name="se",
        flag="/sys/firmware/uv/prot_virt_guest",
        tee=Tee.SE,
        ways=(ByDevice(name=PlatformFd.UV, paths=("/dev/uv",)),),
        unreachable="the ultravisor is asked through the uvdevice driver of Linux 5.19 or later",
    ),
    Row(
        name="pef",
        flag="/sys/devices/system/cpu/svm",
        refusal="POWER's ultravisor hands its secrets out at launch and signs no report for a KBS",
    ),
    # A paravisor hides the hardware and shows a TPM of its own.
    Row(
        name="tpm",
        paths=_FIRST_TPM,
        tee=Tee.TPM,
        asked=(Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM),
        ways=(ByDevice(name=PlatformFd.TPM, paths=_FIRST_TPM, has_register=True),),
    ),
    Row(name="a second tpm", paths=("/dev/tpm1",), refusal="which of two is the platform's?"),
    Row(
        name="svsm",
        paths=("/sys/devices/platform/tpm-svsm",),
        comprises=("snp", "tpm"),
        tee=Tee.SVSM,
        ways=(
            ByDevice(
                name=PlatformFd.TPM,
                paths=_FIRST_TPM,
                has_register=True,
                beside=tsm.SEV_GUEST,
                open_report=tsm.open_vtpm_entry,
            ),
        ),
        unreachable="its vTPM is not there, or nothing reports it: that takes configfs-tsm",
    ),
)


def detect_platform(signs: Signs | None = None) -> Platform:
    """Return the one platform.

    Raises:
        ConfigError: `attest.none`, `attest.ambiguous` (two platforms, or two TPMs),
            `attest.unsupported` (no Attester, or the host would be told of panics); `tee.io`, the
            platform's driver shows no way to evidence.
    """
    signs = signs or KernelSigns()
    provider = signs.tsm_provider()
    shown = [row for row in TABLE if row.shows(signs, provider)]
    comprised = {name for row in shown for name in row.comprises}
    found = [row for row in shown if row.name not in comprised]
    simulated = _find_simulated(signs)
    names = [row.name for row in found] + (
        [] if simulated is None else [f"a simulated {simulated.tee}"]
    )
    if len(names) > 1:
        raise ConfigError("attest.ambiguous", f"expected one platform, found {', '.join(names)}")
    devices = _find_devices(signs)
    if simulated is not None:
        return replace(simulated, devices=devices)
    if not found:
        raise ConfigError("attest.none", "no platform can vouch for this guest")
    platform = replace(_reach(found[0], signs, provider), devices=devices)
    # If it may be Azure's, a paravisor stands between guest and host; whoever registers it trusts
    # that.
    if not platform.asked and signs.exists(PANIC_LISTENER):
        raise ConfigError("attest.unsupported", f"{names[0]}: its host would be told of panics")
    return platform


def _find_simulated(signs: Signs) -> Platform | None:
    """Return a simulated platform; only images of the `test` profile hold that package."""
    try:
        from ccinit.attest.simulated.machine import find_simulated  # noqa: PLC0415  # not always there
    except ModuleNotFoundError:
        return None
    found = find_simulated(signs.read)
    return None if found is None else Platform(tee=found[0], open_report=found[1])


def _find_devices(signs: Signs) -> tuple[str, ...]:
    """Return the names of other devices that vouch; a production image knows none."""
    try:
        from ccinit.attest.sample_device import find_sample_device  # noqa: PLC0415  # likewise
    except ModuleNotFoundError:
        return ()
    return find_sample_device(signs.read)


def _reach(row: Row, signs: Signs, provider: str) -> Platform:
    if row.tee is None:
        raise ConfigError("attest.unsupported", f"{row.name}: {row.refusal}")
    for way in row.ways:
        platform = way.reach(row.tee, signs, provider)
        if platform is not None:
            return replace(platform, asked=row.asked)
    raise ConfigError("tee.io", f"{row.name}: {row.unreachable}")
