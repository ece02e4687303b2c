"""The certificate that `kbs serve` shows: renewed by the same authority, and checked before use.

    server.pem, server-key.pem    under `ca.pem`, whose key is `ca-key.pem`

A booting guest checks chain, names and usage, but dates only once it has a clock. So with an
expired certificate pods still start, and then fail when they ask for something later. Hence the
operator is warned beforehand (RFC 5280 section 4.1.2.5).
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import ConfigError, FormatError
from guest_owner.certificates import Authority, parse_certificate, private_pem
from guest_owner.files import is_file, read_capped, write_all_atomically
from guest_owner.kbs.authority import (
    AUTHORITY_FILE,
    AUTHORITY_KEY_FILE,
    CERTIFICATE_FILE,
    KEY_FILE,
    MAX_PEM_BYTES,
    read_ec_key,
    sign_server,
)
from guest_owner.kbs.exclusion import changing

WARN_BEFORE: Final = timedelta(days=60)
WARN_BEFORE_AUTHORITY: Final = timedelta(days=365)
"""Guests pin authorities in their documents: another one takes two new documents for each pod."""

_REPLACE: Final = "see docs/operations.md, Replacing an authority"


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file.

    Raises:
        ConfigError: `tls.certificate`.
    """
    try:
        return parse_certificate(read_capped(path, MAX_PEM_BYTES))
    except FormatError as error:
        raise ConfigError("tls.certificate", f"{path}: {error.detail}") from error


def renew_certificate(state: Path, names: tuple[str, ...]) -> x509.Certificate:
    """Replace certificate and key of the server by new ones of the same authority.

    Args:
        state: the state directory, with the authority's key.
        names: DNS names or addresses in it; if empty, those of the present certificate.

    Raises:
        FormatError: `certificate.name`.
        ConfigError: `authority.key`, not the key of `ca.pem`; `authority.ended`; `tls.certificate`;
            `state.read`.
    """
    with changing(state):
        present = state / CERTIFICATE_FILE
        authority = read_certificate(state / AUTHORITY_FILE)
        now = datetime.now(UTC)
        if authority.not_valid_after_utc <= now:
            detail = f"{state / AUTHORITY_FILE} {_end_of(authority, now)}: {_REPLACE}"
            raise ConfigError("authority.ended", detail)
        issuer_key = _read_authority_key(state / AUTHORITY_KEY_FILE, authority)
        key = ec.generate_private_key(ec.SECP256R1())
        named = names or _present_names(present)
        issuer = Authority(certificate=authority, key=issuer_key)
        certificate = sign_server(issuer, key.public_key(), named)
        files = {
            state / KEY_FILE: private_pem(key),
            present: certificate.public_bytes(Encoding.PEM),
        }
        write_all_atomically(files, public=(present,))
    return certificate


def certificate_warnings(
    path: Path, state: Path, now: datetime, authorities: Sequence[Path] = ()
) -> Iterator[str]:
    """Say in words what is wrong with the certificate of a server, or soon will be.

    Args:
        path: of the certificate; one from outside the state directory may have any issuer.
        state: the state directory.
        now: with a time zone.
        authorities: files of other authorities that guests pin; those that exist are checked, too.

    Raises:
        ConfigError: `tls.certificate`; `state.read`.
    """
    certificate = read_certificate(path)
    is_ours = path == state / CERTIFICATE_FILE
    authority = state / AUTHORITY_FILE
    if certificate.not_valid_after_utc - now < WARN_BEFORE:
        remedy = ": `guest-owner kbs new-certificate`" if is_ours else ""
        yield f"{path} {_end_of(certificate, now)}{remedy}"
    if certificate.not_valid_before_utc > now:
        begins = f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}"
        yield f"{begins}, and this clock, which guests are set by, says {now:%Y-%m-%d}"
    if is_ours:
        try:
            certificate.verify_directly_issued_by(read_certificate(authority))
        except (InvalidSignature, ValueError, TypeError):
            yield f"{path} is not signed by {authority}: guests that pin that authority refuse it"
    pinned = (authority, *authorities) if is_ours else authorities
    for one in filter(is_file, pinned):
        issuer = read_certificate(one)
        if issuer.not_valid_after_utc - now < WARN_BEFORE_AUTHORITY:
            yield f"{one} {_end_of(issuer, now)}: {_REPLACE}"


def _end_of(certificate: x509.Certificate, now: datetime) -> str:
    ends = certificate.not_valid_after_utc
    return f"{'expired' if ends <= now else 'expires'} on {ends:%Y-%m-%d}"


def _present_names(path: Path) -> tuple[str, ...]:
    try:
        return names_of(read_certificate(path))
    except ConfigError as error:
        remedy = "give each name by which guests reach the KBS: --name"
        raise ConfigError(error.reason, f"{error.detail}; {remedy}") from error


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and addresses that a server's certificate is valid for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _read_authority_key(path: Path, authority: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    key = read_ec_key(path, "authority.key")
    if key.public_key() != authority.public_key():
        raise ConfigError("authority.key", f"{path} is not the key of ca.pem beside it")
    return key
