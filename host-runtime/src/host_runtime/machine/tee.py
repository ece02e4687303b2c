"""A confidential guest as a value, and the QEMU object that makes it one. Pure.

The host chooses here what the owner verifies later: the digest of the initdata document, the
policy, for AMD an identity block. A wrong choice shows in the evidence, so the guest trusts none of
it. Not yet run on hardware; the arguments are checked against QEMU's own lists.

Specification: QEMU 10, `qapi/qom.json` (SevSnpGuestProperties; from 10.1 TdxGuestProperties); AMD
SEV-SNP Firmware ABI 56860, section 4.3 (guest policy) and 8.18 (identity block); Intel TDX Module
ABI 348551, section 3.4 (TD_PARAMS).
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Final, assert_never

from ccinit.errors import ConfigError

TEE_ID: Final = "tee"
"""Name of the object, which the machine's `confidential-guest-support` refers to."""

DEFAULT_POLICY: Final = 0x30000
"""SMT is allowed; bit 17 is always one; neither debugging nor migration."""

IDENTITY_BLOCK_BYTES: Final = 96
IDENTITY_AUTHENTICATION_BYTES: Final = 4096
_DEBUG: Final = 1 << 19
_MIGRATION: Final = 1 << 18
_ALWAYS_ONE: Final = 1 << 17
_MAX_POLICY: Final = (1 << 64) - 1
_QUOTE_SERVICE_CID: Final = "2"
_QUOTE_SERVICE_PORT: Final = "4050"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBlock:
    """What the security processor compares a launch with, signed by the owner.

    Attributes:
        block: 96 bytes.
        authentication: 4096 bytes, keys and signatures.
        has_author_key: whether a second key signed the first.
    """

    block: bytes
    authentication: bytes
    has_author_key: bool = False

    def __post_init__(self) -> None:
        sizes = (len(self.block), len(self.authentication))
        if sizes != (IDENTITY_BLOCK_BYTES, IDENTITY_AUTHENTICATION_BYTES):
            raise ConfigError("tee.identity", f"expected 96 and 4096 bytes, got {sizes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpGuest:
    """A guest under AMD SEV-SNP, booted directly with kernel hashes.

    Attributes:
        host_data: SHA-256 of the initdata document.
        cpu_model: by QEMU's name; its signature is measured.
        policy: what the security processor allows the host.
        encryption_bit, lost_address_bits: of the host's processor (CPUID 8000_001F EBX).
    """

    host_data: bytes
    cpu_model: str
    policy: int = DEFAULT_POLICY
    identity: IdentityBlock | None = None
    encryption_bit: int = 51
    lost_address_bits: int = 1

    def __post_init__(self) -> None:
        if len(self.host_data) != hashlib.sha256().digest_size:
            raise ConfigError("tee.host_data", "expected a SHA-256 digest")
        check_policy(self.policy)


def check_policy(policy: int) -> None:
    """Refuse a guest policy that is none, or under which a guest has no secrets.

    Raises:
        ConfigError: `tee.policy`.
    """
    if not 0 <= policy <= _MAX_POLICY or not policy & _ALWAYS_ONE:
        raise ConfigError("tee.policy", "a policy has 64 bits, and bit 17 is one")
    if policy & (_DEBUG | _MIGRATION):
        raise ConfigError("tee.policy", "a host that may debug or migrate reads the memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxGuest:
    """A guest under Intel TDX.

    Attributes:
        mrconfigid: SHA-384 of the initdata document.
    """

    mrconfigid: bytes

    def __post_init__(self) -> None:
        if len(self.mrconfigid) != hashlib.sha384().digest_size:
            raise ConfigError("tee.mrconfigid", "expected a SHA-384 digest")


def object_type(tee: SnpGuest | TdxGuest) -> str:
    """Return the type of QEMU's object for a confidential guest."""
    return "sev-snp-guest" if isinstance(tee, SnpGuest) else "tdx-guest"


def plan_tee_object(tee: SnpGuest | TdxGuest) -> str:
    """Return the value of QEMU's `-object` for a confidential guest."""
    match tee:
        case SnpGuest():
            return _plan_snp(tee)
        case TdxGuest():
            service = {
                "type": "vsock",
                "cid": _QUOTE_SERVICE_CID,
                "port": _QUOTE_SERVICE_PORT,
            }
            value = {
                "qom-type": object_type(tee),
                "id": TEE_ID,
                "mrconfigid": _encode(tee.mrconfigid),
                "quote-generation-socket": service,
            }
            return json.dumps(value, separators=(",", ":"))
        case _:
            assert_never(tee)


def _plan_snp(guest: SnpGuest) -> str:
    words = [
        object_type(guest),
        f"id={TEE_ID}",
        f"cbitpos={guest.encryption_bit}",
        f"reduced-phys-bits={guest.lost_address_bits}",
        f"policy={guest.policy:#x}",
        "kernel-hashes=on",
        f"host-data={_encode(guest.host_data)}",
    ]
    if guest.identity is not None:
        words += [
            f"id-block={_encode(guest.identity.block)}",
            f"id-auth={_encode(guest.identity.authentication)}",
            f"author-key-enabled={'on' if guest.identity.has_author_key else 'off'}",
        ]
    return ",".join(words)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
