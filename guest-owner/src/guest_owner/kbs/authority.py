"""The KBS's own keys: a certificate authority, a server certificate under it, the token key.

    ca.pem, ca-key.pem            the authority; `ca.pem` goes into `kbs.ca` of `ccinit.toml`
    server.pem, server-key.pem    what `kbs serve` shows
    token-key.pem                 signs attestation tokens

The guest pins the authority and reads no public roots. Before it has attested it has no clock, so
it checks chain, names and key usage, but not dates; the lifetimes below are for everyone else.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import ConfigError, FormatError
from guest_owner.certificates import (
    Authority,
    common_name,
    general_name,
    private_pem,
)
from guest_owner.files import read_capped, write_all_atomically
from measured_boot.command_line.private_keys import elliptic_curve_key

AUTHORITY_FILE: Final = "ca.pem"
AUTHORITY_KEY_FILE: Final = "ca-key.pem"
CERTIFICATE_FILE: Final = "server.pem"
KEY_FILE: Final = "server-key.pem"
_TOKEN_KEY_FILE: Final = "token-key.pem"  # noqa: S105 - a name of a file

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=825)
MAX_PEM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsIdentity:
    """PEM texts of a new KBS."""

    authority: bytes
    authority_key: bytes
    certificate: bytes
    certificate_key: bytes
    token_key: bytes


def create_identity(names: tuple[str, ...]) -> KbsIdentity:
    """Make keys and certificates for a server known by `names` (DNS names or IP addresses).

    Raises:
        FormatError: `certificate.name`.
    """
    authority = Authority.make("ccinit guest-owner KBS authority", AUTHORITY_LIFE)
    server_key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign_server(authority, server_key.public_key(), names)
    return KbsIdentity(
        authority=authority.pem,
        authority_key=private_pem(authority.key),
        certificate=certificate.public_bytes(Encoding.PEM),
        certificate_key=private_pem(server_key),
        token_key=private_pem(ec.generate_private_key(ec.SECP256R1())),
    )


def write_identity(state: Path, identity: KbsIdentity) -> None:
    """Put a new identity into a state directory that has none: all of it, or nothing.

    The caller holds the right to change the state. Only a process that is killed between two
    renames leaves some of the files, and the next call says so.

    Raises:
        ConfigError: `identity.exists`: replacing it would lock out every guest that pinned it;
            `identity.half`, only some of its files are there.
    """
    private = {
        state / AUTHORITY_KEY_FILE: identity.authority_key,
        state / KEY_FILE: identity.certificate_key,
        state / _TOKEN_KEY_FILE: identity.token_key,
    }
    public = {
        state / AUTHORITY_FILE: identity.authority,
        state / CERTIFICATE_FILE: identity.certificate,
    }
    files = private | public
    _require_none(state, files)
    write_all_atomically(files, public=public)


def _require_none(state: Path, files: Collection[Path]) -> None:
    """Refuse a state that has any of these files; see `write_identity`."""
    there = sorted(path.name for path in files if path.exists())
    if len(there) == len(files):
        renewed = "`kbs new-certificate` renews server.pem, docs/operations.md has the rest"
        detail = f"{state / AUTHORITY_FILE} exists, and guests pin it: {renewed}"
        raise ConfigError("identity.exists", detail)
    if there:
        told = f"only {', '.join(there)} of a KBS's keys are in {state}"
        detail = f"{told}: put the others back, or remove them if it was never used"
        raise ConfigError("identity.half", detail)


def read_token_key(state: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key that signs tokens.

    Raises:
        ConfigError: `token_key.form`.
    """
    path = state / _TOKEN_KEY_FILE
    key = read_ec_key(path, "token_key.form")
    if not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("token_key.form", f"{path} is not a P-256 key")
    return key


def read_ec_key(path: Path, reason: str) -> ec.EllipticCurvePrivateKey:
    """Return the private key of a file.

    Raises:
        ConfigError: with `reason`, it is no elliptic-curve key, or has a passphrase; as
            `read_capped`.
    """
    return elliptic_curve_key(read_capped(path, MAX_PEM_BYTES), path, reason)


def sign_server(
    authority: Authority, public_key: ec.EllipticCurvePublicKey, names: tuple[str, ...]
) -> x509.Certificate:
    """Return a certificate for a server known by `names` (DNS names or IP addresses).

    Raises:
        FormatError: `certificate.name`.
    """
    if not names:
        raise FormatError("certificate.name", "the server needs at least one name")
    return authority.sign(
        public_key,
        names=tuple(map(general_name, names)),
        subject=common_name(names[0][:64]),
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        ends=authority.end_of(SERVER_LIFE),
    )
