"""What a resource has to hold for its use, and what may take its place.

What a guest would refuse is refused here before that guest fails because of it.

The guest checks again, and more: only it can tell which authority a TLS identity leads to.
"""

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.kbs.envelope import EnvelopeKind, parse_envelope
from ccinit.formats.kbs.release import MAX_BODY_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.kbs.tls_identity import parse_tls_identity
from ccinit.formats.sealed_log import MIN_PSK_BYTES
from guest_owner.certificates import parse_certificate
from guest_owner.resources.image_key import check_image_key

VOLUME_KEY_BYTES: Final = 64
_REPOSITORY: Final = "ccinit"
_KIND_OF_TAG: Final = {
    kind.value: kind for kind in (EnvelopeKind.LOG_PSK, EnvelopeKind.TLS_IDENTITY)
}


def check_content(uri: ResourceUri, kind: EnvelopeKind | None, data: bytes) -> None:
    """Refuse now what a guest would refuse when it boots.

    Args:
        uri: the resource; a TLS identity must belong to the pod in its name.
        kind: what it is for, if that is known.
        data: the content, without an envelope.

    Raises:
        FormatError: `volume_key.…`, `resource.log_psk`, `enc.key`, `tls_identity.…`.
        LimitExceededError: `tls_identity.…`.
    """
    if kind is EnvelopeKind.VOLUME_KEY:
        check_volume_key(data)
    if kind is EnvelopeKind.LOG_PSK and len(data) < MIN_PSK_BYTES:
        raise FormatError(
            "resource.log_psk", f"expected at least {MIN_PSK_BYTES} bytes, found {len(data)}"
        )
    if kind is EnvelopeKind.IMAGE_KEY:
        check_image_key(data)
    if kind is EnvelopeKind.TLS_IDENTITY:
        _check_identity(data, uri.type)


def check_body(uri: ResourceUri, body: bytes) -> None:
    """Refuse a body that no guest would take, as far as its envelope or its name says what for.

    The manifest chooses the names of all resources but two.

    Args:
        uri: the resource.
        body: as it will be sent.

    Raises:
        FormatError: `envelope.uri`, it is another resource's; `envelope.kind`, it is for something
            else than its name; as `check_content`.
        LimitExceededError: as `check_content`.
    """
    named = _KIND_OF_TAG.get(uri.tag) if uri.repository == _REPOSITORY else None
    try:
        envelope = parse_envelope(body)
    except FormatError:
        check_content(uri, named, body)
        return
    if envelope.uri != uri:
        raise FormatError("envelope.uri", f"the envelope is that of {envelope.uri}, not of {uri}")
    if named not in {None, envelope.kind}:
        detail = f"{uri}: guests ask for {named}, the envelope says {envelope.kind}"
        raise FormatError("envelope.kind", detail)
    check_content(uri, envelope.kind, envelope.data)


def is_envelope(body: bytes) -> bool:
    """Whether a resource's body is an envelope, of whatever name and kind."""
    try:
        parse_envelope(body)
    except FormatError:
        return False
    return True


def check_body_size(body: bytes) -> None:
    """Refuse a body that no session would release.

    Raises:
        FormatError: `resource.size`.
    """
    if not 0 < len(body) <= MAX_BODY_BYTES:
        detail = f"expected 1 to {MAX_BODY_BYTES} bytes to be sent, found {len(body)}"
        raise FormatError("resource.size", detail)


def check_volume_key(data: bytes) -> None:
    """Refuse what is not 64 random bytes.

    Raises:
        FormatError: `volume_key.…`.
    """
    if len(data) != VOLUME_KEY_BYTES:
        raise FormatError(
            "volume_key.length", f"expected {VOLUME_KEY_BYTES} bytes, found {len(data)}"
        )
    # One in 2^64 random keys is ASCII; a passphrase or hex digits always are.
    if data.isascii() or len(set(data)) < VOLUME_KEY_BYTES // 4:
        raise FormatError(
            "volume_key.form", "text or a pattern, not random; use `guest-owner volume-key new`"
        )


def keep_volume_key(
    uri: ResourceUri, stored: bytes, body: bytes, kind: EnvelopeKind | None = None
) -> None:
    """Refuse to replace a volume's key by anything else: it may be the last copy.

    The same key may come in another envelope, or in none. An envelope says what the stored body
    is; without one, its name does, or the kind of its replacement.

    Args:
        uri: the resource.
        stored: its body, b"" for none.
        body: what would replace it.
        kind: what `body` is for, if it is in no envelope and that is known.

    Raises:
        ConfigError: `resource.volume_key`.
    """
    data = body
    with suppress(FormatError):  # it is not in an envelope
        envelope = parse_envelope(body)
        data, kind = envelope.data, envelope.kind
    is_key = kind is EnvelopeKind.VOLUME_KEY or uri.tag.startswith(EnvelopeKind.VOLUME_KEY)
    with suppress(FormatError):
        envelope = parse_envelope(stored)
        stored, is_key = envelope.data, envelope.kind is EnvelopeKind.VOLUME_KEY
    try:
        check_volume_key(stored)
    except FormatError:
        return  # nothing, or not a key that can have opened a volume
    if is_key and stored != data:
        detail = f"{uri} holds another key, and its volume opens with no other"
        removal = f"`guest-owner unregister resources/{uri.path}`, or DELETE over the network,"
        remedy = f"if you have a copy, or the volume is gone, {removal} first"
        raise ConfigError("resource.volume_key", f"{detail}: {remedy}")


def _check_identity(data: bytes, pod: str) -> None:
    identity = parse_tls_identity(data)
    certificate = parse_certificate(ssl.DER_cert_to_PEM_cert(identity.certificate_der).encode())
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError("tls_identity.key", "the private key cannot be read") from error
    if key.public_key() != certificate.public_key():
        raise FormatError("tls_identity.key", "the key does not belong to the certificate")
    names = _dns_names(certificate)
    if pod not in names:
        said = " and ".join(names) or "nobody"
        raise FormatError("tls_identity.name", f"the certificate is for {said}, not for {pod}")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        ended = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        raise FormatError("tls_identity.time", f"the certificate expired on {ended}")


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in named.value.get_values_for_type(x509.DNSName)]
