"""Which platform this guest runs on: exactly one, or an error that names what was found.

Platforms that have no Attester here are still known by name, so that a guest on one of them says
so instead of quoting a vTPM that happens to be there too. There is no sample platform and no
fallback: a guest that cannot tell what vouches for it asks for no key.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from ccinit.attest.attester import Tee
from ccinit.errors import ConfigError

# Either node of the first chip: the resource-managed one does not disturb the kernel's own use.
_TPM_NODES = ("/dev/tpmrm0", "/dev/tpm0")
_SECOND_TPM = "/dev/tpm1"

# Nodes that the kernel makes when the platform's driver has found its platform.
_UNSUPPORTED = (
    ("snp", ("/dev/sev-guest", "/sys/devices/platform/sev-guest")),
    ("tdx", ("/dev/tdx_guest", "/sys/devices/virtual/misc/tdx_guest")),
    ("sgx", ("/dev/attestation/attestation_type", "/dev/sgx_enclave")),
    ("csv", ("/dev/csv-guest",)),
    ("cca", ("/sys/devices/platform/arm-cca-dev",)),
    ("se", ("/sys/firmware/uv/prot_virt_guest",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What was found: its name and the device node that makes evidence."""

    tee: Tee
    device: str


def detect_platform(exists: Callable[[str], bool] = os.path.exists) -> Platform:
    """Return the one platform.

    Args:
        exists: whether a path exists.

    Raises:
        ConfigError: `attest.none`, `attest.ambiguous` (two platforms, or two TPMs) or
            `attest.unsupported`.
    """
    found = [name for name, nodes in _UNSUPPORTED if any(exists(node) for node in nodes)]
    node = next((node for node in _TPM_NODES if exists(node)), None)
    if node is not None:
        found.append(Tee.TPM.value)
    if exists(_SECOND_TPM):
        found.append("a second tpm")
    if len(found) > 1:
        raise ConfigError("attest.ambiguous", f"expected one platform, found {', '.join(found)}")
    if not found:
        raise ConfigError("attest.none", "no platform can vouch for this guest")
    if node is None:
        raise ConfigError("attest.unsupported", f"there is no attester for {found[0]}")
    return Platform(tee=Tee.TPM, device=node)
