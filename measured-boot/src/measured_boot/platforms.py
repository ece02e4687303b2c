"""Names for the combinations of firmware, stub, boot path and QEMU whose measurements are known.

A prediction depends on programs that are not in the image. So each known combination has a name
here, and anything else is refused: nobody notices a wrong reference value until a guest is refused,
or wrongly accepted.

Platforms with a TPM were booted and agreed bit for bit; `tests/vectors/measured_boot` has the
record of each, and its `record.py` makes a new one. Those of AMD and Intel are computed by the
specification and compared only with other programs (`is_compared` is False): no such hardware was
at hand.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ccinit.errors import ConfigError


class Technology(StrEnum):
    """What holds the registers."""

    TPM = "tpm"
    SEV = "sev"
    SEV_ES = "sev-es"
    SNP = "snp"
    SNP_SVSM = "snp-svsm"
    TDX = "tdx"


class Boot(StrEnum):
    """How firmware gets the kernel."""

    UKI = "uki"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareBuild:
    """One build of OVMF.

    Attributes:
        version: that it measures itself into PCR 0.
        sha256: of the file with its code, hex.
        mrtd: hex, MRTD of a trust domain built from it; None if it is not for TDX.
    """

    version: str
    sha256: str
    mrtd: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """One combination.

    Attributes:
        firmware: None if the host's operator brings it, and its content is an input to the
            prediction.
        stub: version of systemd-stub, None if the boot path has no stub.
        emulator: family of QEMU versions.
        is_compared: whether a real boot had the predicted registers.
    """

    name: str
    technology: Technology
    boot: Boot
    firmware: FirmwareBuild | None
    stub: str | None
    emulator: str
    is_compared: bool


_OVMF_TRIXIE: Final = FirmwareBuild(
    version="2025.02-8+deb13u1",
    sha256="624e06de18b4fa535e90db7160d00d3d07d206422b89999bf1e27d920264e4e0",
)
# The same build with variables in the file, for hosts that load it as one.
_OVMF_TRIXIE_WHOLE: Final = FirmwareBuild(
    version=_OVMF_TRIXIE.version,
    sha256="14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db",
    mrtd=(
        "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22"
        "f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11"
    ),
)
_STUB_TRIXIE: Final = "257.13-1~deb13u1"


def _operators_firmware(technology: Technology) -> Platform:
    return Platform(
        name=f"{technology.value}_direct_qemu-10",
        technology=technology,
        boot=Boot.DIRECT,
        firmware=None,
        stub=None,
        emulator="10",
        is_compared=False,
    )


PLATFORMS: Final = (
    Platform(
        name="ovmf-2025.02_stub-257.13_qemu-10",
        technology=Technology.TPM,
        boot=Boot.UKI,
        firmware=_OVMF_TRIXIE,
        stub=_STUB_TRIXIE,
        emulator="10",
        is_compared=True,
    ),
    Platform(
        name="ovmf-2025.02_direct_qemu-10",
        technology=Technology.TPM,
        boot=Boot.DIRECT,
        firmware=_OVMF_TRIXIE,
        stub=None,
        emulator="10",
        is_compared=True,
    ),
    _operators_firmware(Technology.SNP),
    _operators_firmware(Technology.SEV_ES),
    _operators_firmware(Technology.SEV),
    Platform(
        name="snp-svsm_stub-257.13_qemu-8.0-svsm",
        technology=Technology.SNP_SVSM,
        boot=Boot.UKI,
        firmware=None,
        stub=_STUB_TRIXIE,
        emulator="8.0 of COCONUT-SVSM",
        is_compared=False,
    ),
    Platform(
        name="tdx_ovmf-2025.02_direct_qemu-10.1",
        technology=Technology.TDX,
        boot=Boot.DIRECT,
        firmware=_OVMF_TRIXIE_WHOLE,
        stub=None,
        emulator="10.1",
        is_compared=False,
    ),
    Platform(
        name="tdx_ovmf-2025.02_stub-257.13_qemu-10.1",
        technology=Technology.TDX,
        boot=Boot.UKI,
        firmware=_OVMF_TRIXIE_WHOLE,
        stub=_STUB_TRIXIE,
        emulator="10.1",
        is_compared=False,
    ),
)


def find_platform(boot: Boot, stub: str | None, name: str | None = None) -> Platform:
    """Return the platform that starts such an image.

    Args:
        boot: the path.
        stub: version of the stub in the image, if it has one.
        name: the platform that is wanted; None takes the first with a TPM that fits.

    Raises:
        ConfigError: `platform.unknown`: nobody has worked out what that combination measures.
            `platform.mismatch`: the named platform does not start this image.
    """
    if name is not None:
        return _require_fit(find_named_platform(name), boot, stub)
    for platform in PLATFORMS:
        wanted = (Technology.TPM, boot, stub)
        if (platform.technology, platform.boot, platform.stub) == wanted:
            return platform
    what = f"systemd-stub {stub}" if boot is Boot.UKI else "direct boot"
    raise ConfigError("platform.unknown", f"no known platform has {what}; known: {_known()}")


def find_named_platform(name: str) -> Platform:
    """Return the platform of this name.

    Raises:
        ConfigError: `platform.unknown`: there is none; the text lists those that there are.
    """
    for platform in PLATFORMS:
        if platform.name == name:
            return platform
    raise ConfigError("platform.unknown", f"{name[:80]!r} is not known; known: {_known()}")


def _require_fit(platform: Platform, boot: Boot, stub: str | None) -> Platform:
    if platform.boot is not boot:
        raise ConfigError("platform.mismatch", f"{platform.name} is not for {boot.value} boot")
    if platform.stub != stub:
        detail = f"{platform.name} is for systemd-stub {platform.stub}, the image has {stub}"
        raise ConfigError("platform.mismatch", detail)
    return platform


def _known() -> str:
    return ", ".join(platform.name for platform in PLATFORMS)
