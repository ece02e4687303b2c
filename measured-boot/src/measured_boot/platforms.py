"""Names for the combinations of firmware, stub, boot path and QEMU whose measurements are known.

A prediction is a statement about programs that are not in the image. So each combination that was
booted and found to agree bit for bit has a name here, and anything else is refused: a wrong
reference value is found by nobody until a guest is turned away, or let in.

The record of each is `tests/vectors/measured_boot`, whose `record.py` also makes a new one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ccinit.errors import ConfigError


class Boot(StrEnum):
    """How firmware comes by the kernel."""

    UKI = "uki"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """One combination.

    Attributes:
        firmware: version that the firmware itself measures into PCR 0.
        firmware_sha256: of the file with its code, hex.
        stub: version of systemd-stub, None if the boot path has no stub.
        emulator: family of QEMU versions.
    """

    name: str
    boot: Boot
    firmware: str
    firmware_sha256: str
    stub: str | None
    emulator: str


_OVMF_TRIXIE: Final = "2025.02-8+deb13u1"
_OVMF_TRIXIE_SHA256: Final = "624e06de18b4fa535e90db7160d00d3d07d206422b89999bf1e27d920264e4e0"

PLATFORMS: Final = (
    Platform(
        name="ovmf-2025.02_stub-257.13_qemu-10",
        boot=Boot.UKI,
        firmware=_OVMF_TRIXIE,
        firmware_sha256=_OVMF_TRIXIE_SHA256,
        stub="257.13-1~deb13u1",
        emulator="10",
    ),
    Platform(
        name="ovmf-2025.02_direct_qemu-10",
        boot=Boot.DIRECT,
        firmware=_OVMF_TRIXIE,
        firmware_sha256=_OVMF_TRIXIE_SHA256,
        stub=None,
        emulator="10",
    ),
)


def find_platform(boot: Boot, stub: str | None, name: str | None = None) -> Platform:
    """Return the platform that starts such an image.

    Args:
        boot: the path.
        stub: version of the stub in the image, if it has one.
        name: the platform that is wanted; None takes the first that fits.

    Raises:
        ConfigError: `platform.unknown`: nobody has compared that combination with a prediction.
            `platform.mismatch`: the named platform does not start this image.
    """
    if name is not None:
        return _find_named(name, boot, stub)
    for platform in PLATFORMS:
        if (platform.boot, platform.stub) == (boot, stub):
            return platform
    what = f"systemd-stub {stub}" if boot is Boot.UKI else "direct boot"
    raise ConfigError("platform.unknown", f"no known platform has {what}; known: {_known()}")


def _find_named(name: str, boot: Boot, stub: str | None) -> Platform:
    for platform in PLATFORMS:
        if platform.name == name:
            if platform.boot is not boot:
                raise ConfigError("platform.mismatch", f"{name} is not for {boot.value} boot")
            if platform.stub != stub:
                raise ConfigError("platform.mismatch", f"the image has systemd-stub {stub}")
            return platform
    raise ConfigError("platform.unknown", f"{name[:80]!r} is not known; known: {_known()}")


def _known() -> str:
    return ", ".join(platform.name for platform in PLATFORMS)
