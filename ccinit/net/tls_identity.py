"""Checks, by a handshake with itself, that a pod can show a TLS identity to its owner.

The server is that of the owner plane. A client in the same process knows what the owner's clients
have to know: the name, and the certificates that the chain must lead to. So an identity that is
refused here would be refused by those, too, by the same library, and no code of ours parses a
certificate. The guest need not know the root of the owner's clients: a chain may end at a
certificate that it includes itself, an authority or not (X509_V_FLAG_PARTIAL_CHAIN). If the chain
does not include the certificate that it ends at, that has to be a root: a client that trusts only
something above it could not complete the chain.
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
    """Return the facts about an identity, once it is verified to be the expected one.

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
    said = _do_handshake(_server(identity, expected.roots_pem), context, expected.pod)
    return VerifiedIdentity(
        top_der=parsed.top_der,
        not_before=parse_asn1_time(said["notBefore"]),
        not_after=parse_asn1_time(said["notAfter"]),
    )


def parse_asn1_time(text: object) -> int:
    """Return seconds since 1970 of a time as OpenSSL prints it: `Nov 26 12:51:36 2026 GMT`.

    `ssl.cert_time_to_seconds` imports a module when called, which a child can no longer do.

    Raises:
        FormatError: `tls_identity.form`.
    """
    try:
        month, day, clock, year, _gmt = str(text).split()
        hour, minute, second = map(int, clock.split(":"))
        date = (int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second)
        return calendar.timegm(date)
    except ValueError as error:  # for the year 0, too
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


def _do_handshake(server: ServerConnection, context: ssl.SSLContext, pod: str) -> dict[str, object]:
    """Return OpenSSL's description of the server's certificate, once the client has accepted it.

    In TLS 1.3 that is after the server's one flight; what the client would then send is dropped.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=pod)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        server.feed(outgoing.read())
    try:
        server.do_handshake()
    except PeerError as error:  # the client has offered all that the owner's clients speak
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
