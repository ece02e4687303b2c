"""Whether a TLS identity is one that a pod can show to its owner: by a handshake with itself.

The server is the one of the owner plane. Its client, which nobody hears, knows what such a client
has to know: the name, and certificates that the chain must lead to. So what is refused here would
be refused out there, by the same library, and no certificate is parsed by code of ours. The root of
the owner's clients need not be known to the guest: a chain may end at a certificate that it brings
along itself, of an authority or not (X509_V_FLAG_PARTIAL_CHAIN). One that it does not bring along
has to be a root, for whoever trusts only what is above it would not find the way.
"""

import calendar
import ssl
from typing import Final

from ccinit.errors import ConfigError, FormatError, PeerError, VerificationError
from ccinit.formats.kbs.tls_identity import (
    ExpectedIdentity,
    VerifiedIdentity,
    parse_tls_identity,
)
from ccinit.net.tls import client_context, tls_error
from ccinit.net.tls_server import ServerConnection, server_context
from ccinit.secret import Secret

_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_REASONS: Final = {
    "net.certificate": "tls_identity.chain",
    "net.certificate_name": "tls_identity.name",
    "net.certificate_purpose": "tls_identity.usage",
    "net.certificate_early": "tls_identity.time",
    "net.certificate_time": "tls_identity.time",
    "net.weak_key": "tls_identity.key",
}


def verify_identity(
    identity: Secret, expected: ExpectedIdentity, *, check_time: bool
) -> VerifiedIdentity:
    """Return what is to be known of an identity that is the expected one.

    Args:
        identity: the data of the resource.
        expected: by whom and for whom.
        check_time: False as long as there is no trusted clock.

    Raises:
        FormatError, LimitExceededError: `tls_identity.form`, `tls_identity.size`.
        VerificationError: `tls_identity.key`, key and certificate do not match, are weak,
            or of a kind that TLS 1.3 does not sign with;
            `tls_identity.chain`, `tls_identity.name`, `tls_identity.usage`, `tls_identity.time`.
        ConfigError: `net.roots`.
    """
    parsed = parse_tls_identity(identity.reveal())
    top_der = expected.top_der or parsed.top_der
    context = client_context(expected.roots_pem, check_time=check_time)
    _trust(context, top_der)
    if top_der in parsed.chain_der:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    said = _shake_hands(_server(identity, expected.roots_pem), context, expected.pod)
    return VerifiedIdentity(
        top_der=parsed.top_der,
        not_before=parse_asn1_time(said["notBefore"]),
        not_after=parse_asn1_time(said["notAfter"]),
    )


def parse_asn1_time(text: object) -> int:
    """Return seconds since 1970 of a time as OpenSSL prints it: `Nov 26 12:51:36 2026 GMT`.

    Not `ssl.cert_time_to_seconds`: it imports when it is called, and a child cannot then.

    Raises:
        FormatError: `tls_identity.form`.
    """
    try:
        month, day, clock, year, _gmt = str(text).split()
        hour, minute, second = map(int, clock.split(":"))
        date = (int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second)
        return calendar.timegm(date)
    except ValueError as error:  # the year 0 is one, too
        raise FormatError("tls_identity.form", "a date that is none") from error


def _server(identity: Secret, roots_pem: str) -> ServerConnection:
    try:
        return ServerConnection(server_context(identity, roots_pem))
    except ConfigError as error:
        if error.reason != "net.identity":
            raise
        raise VerificationError("tls_identity.key", error.detail) from error


def _trust(context: ssl.SSLContext, top_der: bytes) -> None:
    try:
        context.load_verify_locations(cadata=top_der)
    except (ssl.SSLError, ValueError) as error:
        raise FormatError("tls_identity.form", "its last certificate is none") from error


def _shake_hands(server: ServerConnection, context: ssl.SSLContext, pod: str) -> dict[str, object]:
    """Return what OpenSSL says of the server's certificate, once the client takes it.

    In TLS 1.3 that is when it has the server's one flight; what it would send then is dropped.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=pod)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        server.feed(outgoing.read())
    try:
        server.shake_hands()
    except PeerError as error:  # it was offered all that our clients speak
        raise VerificationError("tls_identity.key", f"of no use to TLS: {error.detail}") from error
    incoming.write(server.take())
    try:
        client.do_handshake()
    except ssl.SSLError as error:
        refused = tls_error(error, "the identity")
        if refused.reason not in _REASONS:
            raise refused from error
        raise VerificationError(_REASONS[refused.reason], refused.detail) from error
    said = client.getpeercert()
    if not said:
        raise PeerError("net.certificate", "the server has shown no certificate")
    return dict(said)
