"""From what is booted to the registers it will leave: picks the platform and its recipe.

`predict` is for a TPM, `predict_launch` for the registers of AMD's and Intel's processors. Pure:
the caller reads files (`measured_boot.image_files`). `measured_boot.published.reference_values` and
`measured_boot.published.measurements` put the result to use.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from ccinit.errors import ConfigError
from measured_boot.image.pe import parse_pe
from measured_boot.platforms import Boot, FirmwareBuild, Platform, Technology, find_platform
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.sev.kernel_hashes import hash_kernel_files
from measured_boot.sev.launch import (
    LaunchDigest,
    Processors,
    sev_es_launch_digest,
    sev_launch_digest,
    snp_launch_digest,
)
from measured_boot.sev.svsm import parse_svsm, svsm_launch_digest
from measured_boot.sev.vmsa import SNP_ACTIVE
from measured_boot.tdx.build_measurement import measure_build
from measured_boot.tdx.firmware import parse_tdx_sections
from measured_boot.tdx.registers import replay_rtmrs
from measured_boot.tpm.direct_boot import predict_direct_boot
from measured_boot.tpm.pcr import ZERO_PCR, Event, PcrValue, replay_events
from measured_boot.tpm.stub import command_line, predict_uki, stub_version


@dataclass(frozen=True, slots=True, kw_only=True)
class UkiBoot:
    """A UKI on a disk that firmware boots."""

    uki: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectKernelBoot:
    """Three files that QEMU gives to firmware; the command line as QEMU is given it."""

    kernel: bytes
    initrd: bytes
    command_line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEvents:
    """What a boot will measure, on whatever machine of the platform.

    Attributes:
        command_line: of the image, without what firmware adds.
        events: in the order in which each register is extended; the processors of AMD keep none.
    """

    platform: Platform
    command_line: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(BootEvents, ABC):
    """What a boot will leave in the registers of its platform.

    Attributes:
        inputs: the properties of the host's machine that they depend on, for the record.
    """

    inputs: Mapping[str, str | int] = field(default_factory=dict)

    @property
    @abstractmethod
    def named_registers(self) -> Mapping[str, bytes]:
        """The predicted registers by name, without those that stay zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmPrediction(Prediction):
    """What a boot will leave in a TPM: PCR 4, 9 and 11, on any machine."""

    registers: Mapping[int, PcrValue]

    @property
    def named_registers(self) -> Mapping[str, bytes]:
        """As `pcr4`."""
        written = {index: value for index, value in self.registers.items() if value != ZERO_PCR}
        return {f"pcr{index}": value for index, value in written.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The properties of the host that enter into a launch measurement.

    Attributes:
        firmware: the file.
        vcpus: how many processors.
        memory_mib: for the record only: no predicted register depends on it.
        cpu_model: QEMU's name; None where the technology does not measure it.
        guest_features: SEV_FEATURES of SEV-SNP.
        svsm: the file of an SVSM that is loaded below the firmware; None without one.
        variables_bytes: size of the firmware's variables, between both; 0 without an SVSM.
    """

    firmware: bytes
    vcpus: int = 1
    memory_mib: int | None = None
    cpu_model: str | None = None
    guest_features: int = SNP_ACTIVE
    svsm: bytes | None = None
    variables_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPrediction(Prediction):
    """What a launch under a TEE will be measured as.

    Attributes:
        registers: `launch_digest` of AMD; `mrtd`, `rtmr1`, `rtmr2` of Intel; with an SVSM
            `svsm_launch_digest` and `pcr4`, `pcr9`, `pcr11` of its vTPM, which only together
            say what was booted.
    """

    registers: Mapping[str, bytes]

    @property
    def named_registers(self) -> Mapping[str, bytes]:
        """All of them: none stays zero."""
        return self.registers


def predict(what: UkiBoot | DirectKernelBoot, platform: str | None = None) -> TpmPrediction:
    """Return the prediction for one boot, on the named platform or the one that fits.

    Raises:
        FormatError: a file is not what it should be, with a reason below `pe`, `stub` or `direct`.
        ConfigError: the platform is unknown or does not fit.
    """
    boot = predict_events(what, platform)
    if boot.platform.technology is not Technology.TPM:
        raise ConfigError("platform.mismatch", f"{boot.platform.name} has no TPM")
    return TpmPrediction(
        platform=boot.platform,
        command_line=boot.command_line,
        events=boot.events,
        registers=replay_events(boot.events),
    )


def predict_launch(
    what: UkiBoot | DirectKernelBoot, platform: str, machine: Machine | None = None
) -> LaunchPrediction:
    """Return the prediction for one launch on the named platform.

    Args:
        what: is booted.
        platform: one without a TPM.
        machine: of the host; a platform that names its firmware build does without.

    Raises:
        FormatError: as `predict`, or with a reason below `firmware` or `sev`.
        ConfigError: the platform is unknown or does not fit, `platform.firmware`: it is another
            build; `cpu_model.…`, `launch.…`: nothing can be predicted for this machine.
    """
    return predict_launch_of(what, predict_events(what, platform), machine)


def predict_launch_of(
    what: UkiBoot | DirectKernelBoot, boot: BootEvents, machine: Machine | None
) -> LaunchPrediction:
    """Return the prediction for one launch of a boot whose events are already known.

    Hashing an image takes most of the time, and launches of an image differ only by machine.

    Args:
        what: is booted.
        boot: what `predict_events` says of it.
        machine: as for `predict_launch`.

    Raises:
        FormatError, ConfigError: as `predict_launch`.
    """
    platform = boot.platform
    has_svsm = machine is not None and machine.svsm is not None
    if has_svsm and platform.technology is not Technology.SNP_SVSM:
        raise ConfigError("launch.svsm", f"{platform.name} has no SVSM")
    match platform.technology:
        case Technology.TPM:
            raise ConfigError("platform.mismatch", f"{platform.name} is measured into a TPM")
        case Technology.TDX:
            registers = _predict_tdx(platform, boot.events, machine)
        case Technology.SEV | Technology.SEV_ES | Technology.SNP:
            if not isinstance(what, DirectKernelBoot):
                raise ConfigError("platform.mismatch", f"{platform.name} boots no UKI")
            if machine is None:
                raise ConfigError(
                    "launch.machine", f"{platform.name} measures firmware: give --firmware"
                )
            registers = {"launch_digest": _predict_sev(what, platform.technology, machine)}
        case Technology.SNP_SVSM:
            registers = _predict_svsm(boot.events, machine)
        case _:
            assert_never(platform.technology)
    return LaunchPrediction(
        platform=platform,
        command_line=boot.command_line,
        events=boot.events,
        registers=registers,
        inputs=_describe_inputs(platform, machine),
    )


def predict_events(what: UkiBoot | DirectKernelBoot, platform: str | None) -> BootEvents:
    """Return the events of one boot, on the named platform or the one that fits.

    Raises:
        FormatError, ConfigError: as `predict`.
    """
    match what:
        case UkiBoot(uki=data):
            image = parse_pe(data)
            return BootEvents(
                platform=find_platform(Boot.UKI, stub_version(image), platform),
                command_line=command_line(image),
                events=predict_uki(image),
            )
        case DirectKernelBoot(kernel=kernel, initrd=initrd, command_line=line):
            return BootEvents(
                platform=find_platform(Boot.DIRECT, None, platform),
                command_line=line,
                events=predict_direct_boot(parse_pe(kernel), initrd, line),
            )
        case _:
            assert_never(what)


def _predict_sev(what: DirectKernelBoot, technology: Technology, machine: Machine) -> LaunchDigest:
    firmware = parse_sev_firmware(machine.firmware)
    hashes = hash_kernel_files(what.kernel, what.initrd, what.command_line)
    if technology is Technology.SEV:
        return sev_launch_digest(firmware, hashes)
    processors = _find_processors(machine)
    if technology is Technology.SEV_ES:
        return sev_es_launch_digest(firmware, processors, hashes)
    return snp_launch_digest(firmware, processors, hashes)


def _predict_svsm(events: tuple[Event, ...], machine: Machine | None) -> Mapping[str, bytes]:
    if machine is None or machine.svsm is None:
        raise ConfigError("launch.svsm", "both files are measured: give --firmware and --svsm")
    digest = svsm_launch_digest(
        parse_sev_firmware(machine.firmware),
        parse_svsm(machine.svsm),
        _find_processors(machine),
        machine.variables_bytes,
    )
    registers = replay_events(events).items()
    return {"svsm_launch_digest": digest, **{f"pcr{index}": value for index, value in registers}}


def _find_processors(machine: Machine) -> Processors:
    if machine.cpu_model is None:
        raise ConfigError("launch.cpu_model", "the processor model is measured: give --cpu-model")
    return Processors(
        count=machine.vcpus,
        signature=find_signature(machine.cpu_model),
        features=machine.guest_features,
    )


def _predict_tdx(
    platform: Platform, events: tuple[Event, ...], machine: Machine | None
) -> Mapping[str, bytes]:
    build = _require_build(platform)
    if build.mrtd is None:
        raise RuntimeError("every platform of TDX has the MRTD of its firmware")
    mrtd = bytes.fromhex(build.mrtd)
    if machine is not None:
        if hashlib.sha256(machine.firmware).hexdigest() != build.sha256:
            what = f"the file is not the build of {platform.name}"
            raise ConfigError("platform.firmware", what)
        mrtd = measure_build(parse_tdx_sections(machine.firmware))
    rtmrs = replay_rtmrs(events)
    return {"mrtd": mrtd, "rtmr1": rtmrs[1], "rtmr2": rtmrs[2]}


def _require_build(platform: Platform) -> FirmwareBuild:
    if platform.firmware is None:
        raise RuntimeError("what the operator brings is a machine's")
    return platform.firmware


def _describe_inputs(platform: Platform, machine: Machine | None) -> Mapping[str, str | int]:
    if machine is None:
        return {"firmware_sha256": _require_build(platform).sha256}
    inputs: dict[str, str | int] = {"firmware_sha256": hashlib.sha256(machine.firmware).hexdigest()}
    if machine.memory_mib is not None:
        inputs["memory_mib"] = machine.memory_mib
    if machine.svsm is not None:
        inputs["svsm_sha256"] = hashlib.sha256(machine.svsm).hexdigest()
        inputs["variables_bytes"] = machine.variables_bytes
    if platform.technology in {Technology.SEV_ES, Technology.SNP, Technology.SNP_SVSM}:
        inputs |= {"vcpus": machine.vcpus, "cpu_model": machine.cpu_model or ""}
    if platform.technology is Technology.SNP:
        inputs["guest_features"] = machine.guest_features
    return inputs
