"""The owner's small certificate authority for the owner plane.

    owner-ca.pem, owner-ca-key.pem    the authority, in the state directory

`owner-ca.pem` goes into `owner.client_ca` of `ccinit.toml`; the commands also check with it a guest
whose identity comes from here. A client's certificate names one role as a URI
(`ccinit.formats.planes.owner_rpc.ClientRole`) and is for clients only. A guest's identity names its
pod and is for servers only. So neither can be used as the other.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.planes.owner_rpc import ROLE_URI_PREFIX, ClientRole
from guest_owner.certificates import (
    Authority,
    common_name,
    general_name,
    parse_certificate,
    private_pem,
)
from guest_owner.files import read_capped, write_all_atomically
from guest_owner.kbs.authority import MAX_PEM_BYTES, read_ec_key
from guest_owner.kbs.exclusion import changing

AUTHORITY_LIFE: Final = timedelta(days=3650)
OWNER_AUTHORITY_FILE: Final = "owner-ca.pem"
OWNER_AUTHORITY_KEY_FILE: Final = "owner-ca-key.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerAuthority(Authority):
    """The authority whose `pem` is `owner.client_ca`."""

    def issue_client(self, name: str, role: ClientRole, days: int) -> bytes:
        """Return key and certificate of a client, PEM; it ends with the authority at the latest.

        Raises:
            FormatError: `certificate.days`, `certificate.name`.
            ConfigError: `owner_ca.ended`.
        """
        uri = x509.UniformResourceIdentifier(f"{ROLE_URI_PREFIX}{role}")
        return self._issue(name, uri, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def issue_guest(self, pod: str, days: int) -> bytes:
        """Return key and certificate of a guest: the data of a `tls-identity` resource.

        Raises:
            CcinitError: as `issue_client`.
        """
        return self._issue(pod, general_name(pod), ExtendedKeyUsageOID.SERVER_AUTH, days)

    def _issue(
        self, name: str, alternative: x509.GeneralName, usage: x509.ObjectIdentifier, days: int
    ) -> bytes:
        if not 1 <= days <= AUTHORITY_LIFE.days:
            raise FormatError(
                "certificate.days", f"expected 1 to {AUTHORITY_LIFE.days}: its issuer's"
            )
        ends = self.certificate.not_valid_after_utc
        if ends <= datetime.now(UTC):
            remedy = "see docs/operations.md, Replacing an authority"
            detail = f"{OWNER_AUTHORITY_FILE} expired on {ends:%Y-%m-%d}: {remedy}"
            raise ConfigError("owner_ca.ended", detail)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.sign(
            key.public_key(),
            subject=common_name(name),
            names=(alternative,),
            usage=usage,
            ends=self.end_of(timedelta(days=days)),
        )
        return private_pem(key) + certificate.public_bytes(Encoding.PEM)


def create_authority(state: Path) -> OwnerAuthority:
    """Make an authority and write it into the state directory.

    Raises:
        ConfigError: `owner_ca.exists`: a new one would lock out every client and guest of the old;
            `owner_ca.half`, one of its files is there.
    """
    with changing(state):
        _refuse_existing(state)
        authority = OwnerAuthority.make("ccinit owner plane authority", AUTHORITY_LIFE)
        certificate = state / OWNER_AUTHORITY_FILE
        files = {
            state / OWNER_AUTHORITY_KEY_FILE: private_pem(authority.key),
            certificate: authority.pem,
        }
        write_all_atomically(files, public=(certificate,))
    return authority


def ensure_authority(state: Path) -> None:
    """Make an authority if there is none; as `create_authority`, but for `owner_ca.exists`."""
    with changing(state):
        if not _is_there(state):
            create_authority(state)


def _is_there(state: Path) -> bool:
    """Whether there is an authority.

    Raises:
        ConfigError: `owner_ca.half`.
    """
    there = [
        state / name
        for name in (OWNER_AUTHORITY_KEY_FILE, OWNER_AUTHORITY_FILE)
        if (state / name).exists()
    ]
    if len(there) == 1:
        detail = f"only {there[0]} is there: put the other back, or remove it if it was never used"
        raise ConfigError("owner_ca.half", detail)
    return bool(there)


def _refuse_existing(state: Path) -> None:
    if _is_there(state):
        shown = "`guest-owner client-ca show` prints the certificate"
        detail = f"{state / OWNER_AUTHORITY_KEY_FILE} exists; {shown}"
        raise ConfigError("owner_ca.exists", detail)


def read_authority(state: Path) -> OwnerAuthority:
    """Return the authority of a state directory.

    Raises:
        ConfigError: `owner_ca.absent`; `owner_ca.half`, one of its files is there;
            `owner_ca.form`, not what `create_authority` writes; `owner_ca.key`, certificate and key
            are of two authorities.
    """
    if not _is_there(state):
        detail = f"{state / OWNER_AUTHORITY_FILE} is missing; `guest-owner client-ca init` makes it"
        raise ConfigError("owner_ca.absent", detail)
    try:
        certificate = parse_certificate(read_capped(state / OWNER_AUTHORITY_FILE, MAX_PEM_BYTES))
    except FormatError as error:
        detail = f"{state / OWNER_AUTHORITY_FILE}: {error.detail}"
        raise ConfigError("owner_ca.form", detail) from error
    key = read_ec_key(state / OWNER_AUTHORITY_KEY_FILE, "owner_ca.form")
    if key.public_key() != certificate.public_key():
        detail = (
            f"{state / OWNER_AUTHORITY_KEY_FILE} is not the key of {OWNER_AUTHORITY_FILE} beside it"
        )
        raise ConfigError("owner_ca.key", f"{detail}: put both files of one authority there")
    return OwnerAuthority(certificate=certificate, key=key)
