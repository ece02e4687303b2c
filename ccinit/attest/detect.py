"""Which platform this guest runs on: exactly one, or an error that names what was found.

One table. Platforms that have no Attester here are still known by name, so that a guest on one of
them says so instead of quoting a vTPM that happens to be there too. There is no sample platform and
no fallback: a guest that cannot tell what vouches for it asks for no key.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from ccinit.errors import ConfigError
from ccinit.formats.tee import Tee

_NO_ATTESTER = "there is no attester for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A file that PID 1 opens for a child, which then has it by name and by nothing else."""

    name: str
    path: str
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What was found: its name, and the files through which it makes evidence."""

    tee: Tee
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """How one platform shows itself.

    Attributes:
        name: in errors.
        paths: one of them exists; the kernel makes them when a driver has found its platform. The
            first that exists is the device of a platform with an Attester.
        flag: a file that holds `1`.
        tee: its verifier, if there is an Attester.
        device: the name that its Attester knows the device by.
        refusal: why there is no Attester.
    """

    name: str
    paths: tuple[str, ...] = ()
    flag: str = ""
    tee: Tee | None = None
    device: str = ""
    refusal: str = _NO_ATTESTER


_TABLE = (
    _Row(name="snp", paths=("/dev/sev-guest", "/sys/devices/platform/sev-guest")),
    _Row(name="tdx", paths=("/dev/tdx_guest", "/sys/devices/virtual/misc/tdx_guest")),
    _Row(name="sev", paths=("/sys/kernel/security/secrets/coco",)),
    _Row(name="sgx", paths=("/dev/attestation/attestation_type", "/dev/sgx_enclave")),
    _Row(name="csv", paths=("/dev/csv-guest",)),
    _Row(name="cca", paths=("/sys/devices/platform/arm-cca-dev",)),
    _Row(name="se", flag="/sys/firmware/uv/prot_virt_guest"),
    _Row(
        name="pef",
        flag="/sys/devices/system/cpu/svm",
        refusal="POWER's ultravisor hands its secrets out at launch and signs no report for a KBS",
    ),
    # Either node of the first chip: the resource-managed one does not disturb the kernel's own use.
    _Row(name="tpm", paths=("/dev/tpmrm0", "/dev/tpm0"), tee=Tee.TPM, device="tpm"),
    _Row(name="a second tpm", paths=("/dev/tpm1",)),
)


def detect_platform(
    exists: Callable[[str], bool] = os.path.exists,
    read: Callable[[str], str] | None = None,
) -> Platform:
    """Return the one platform.

    Args:
        exists: whether a path exists.
        read: the text of a file, "" if there is none.

    Raises:
        ConfigError: `attest.none`, `attest.ambiguous` (two platforms, or two TPMs) or
            `attest.unsupported`.
    """
    found = [row for row in _TABLE if _shows(row, exists, read or _read)]
    if len(found) > 1:
        names = ", ".join(row.name for row in found)
        raise ConfigError("attest.ambiguous", f"expected one platform, found {names}")
    if not found:
        raise ConfigError("attest.none", "no platform can vouch for this guest")
    row = found[0]
    if row.tee is None:
        raise ConfigError("attest.unsupported", f"{row.name}: {row.refusal}")
    path = next(path for path in row.paths if exists(path))
    return Platform(tee=row.tee, nodes=(Node(name=row.device, path=path, writable=True),))


def _shows(row: _Row, exists: Callable[[str], bool], read: Callable[[str], str]) -> bool:
    return any(map(exists, row.paths)) or (bool(row.flag) and read(row.flag).strip() == "1")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(16)
    except (OSError, UnicodeDecodeError):
        return ""
