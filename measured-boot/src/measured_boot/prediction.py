"""From what is booted to the registers it will leave: picks the platform and its recipe.

Pure: files are read by the caller. What to do with the result is `measured_boot.reference_values`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from measured_boot.direct_boot import predict_direct_boot
from measured_boot.pcr import Event, PcrValue, replay_events
from measured_boot.pe import parse_pe
from measured_boot.platforms import Boot, Platform, find_platform
from measured_boot.stub import command_line, predict_uki, stub_version


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
class Prediction:
    """What a boot will measure.

    Attributes:
        command_line: of the image, without what firmware adds.
        events: in the order in which each register is extended.
        registers: PCR 4, 9 and 11.
    """

    platform: Platform
    command_line: str
    events: tuple[Event, ...]
    registers: Mapping[int, PcrValue]


def predict(what: UkiBoot | DirectKernelBoot, platform: str | None = None) -> Prediction:
    """Return the prediction for one boot, on the named platform or the one that fits.

    Raises:
        FormatError: a file is not what it should be, with a reason below `pe`, `stub` or `direct`.
        ConfigError: the platform is unknown or does not fit.
    """
    match what:
        case UkiBoot(uki=data):
            image = parse_pe(data)
            found = find_platform(Boot.UKI, stub_version(image), platform)
            events, line = predict_uki(image), command_line(image)
        case DirectKernelBoot(kernel=kernel, initrd=initrd, command_line=line):
            found = find_platform(Boot.DIRECT, None, platform)
            events = predict_direct_boot(parse_pe(kernel), initrd, line)
        case _:
            assert_never(what)
    return Prediction(
        platform=found, command_line=line, events=events, registers=replay_events(events)
    )
