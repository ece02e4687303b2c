"""TLS client contexts that trust only the roots they are given.

TLS 1.3 only (RFC 8446); server names checked as in RFC 6125, without common names; keys and hashes
of at least 112 bits. The image has no list of public roots, and none is read. Until the clock is
set, dates cannot be checked: `check_time=False` skips the dates and nothing else. Sockets and HTTP
are left to `ccinit.net.tls_socket`, `ccinit.net.stream` and `ccinit.net.http`.
"""

import os
import ssl

from ccinit.errors import ConfigError, PeerError
from ccinit.kernel.memory_file import open_memory_file

_MAX_ROOTS_PEM_BYTES = 256 * 1024

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, for which the ssl module has no name

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_CERTIFICATE_REASONS = {
    9: "net.certificate_early",  # not yet valid
    10: "net.certificate_time",  # has expired
    26: "net.certificate_purpose",  # unsuitable purpose
    62: "net.certificate_name",  # hostname mismatch
    64: "net.certificate_name",  # address mismatch
    66: "net.weak_key",  # end entity key too small
    67: "net.weak_key",  # CA key too small
    68: "net.weak_key",  # CA signature digest too weak
}
_EXPIRED_ALERT = "SSLV3_ALERT_CERTIFICATE_EXPIRED"  # RFC 8446 section 6.2, in OpenSSL's words
_CUT_OFF = "UNEXPECTED_EOF_WHILE_READING"


def pinned_context(roots_pem: str, *, check_time: bool) -> ssl.SSLContext:
    """Return a client context that trusts exactly the given roots.

    Args:
        roots_pem: one or more PEM certificates.
        check_time: False as long as there is no trusted clock.

    Raises:
        ConfigError: `net.roots`, not PEM certificates.
    """
    context = client_context(roots_pem, check_time=check_time)
    if not context.get_ca_certs(binary_form=True):
        raise ConfigError("net.roots", "holds no certificate authority")
    return context


def client_context(roots_pem: str, *, check_time: bool) -> ssl.SSLContext:
    """Return such a context that also accepts given certificates which are no authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and name
    narrow(context)
    context.hostname_checks_common_name = False
    if not check_time:
        context.verify_flags |= _NO_CHECK_TIME
    load_roots(context, roots_pem)
    return context


def narrow(context: ssl.SSLContext) -> None:
    """Restrict a context to the TLS that the guest speaks, as client and as server."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Level 2: RSA of at least 2048 bits and no SHA-1, for certificates, too. TLS 1.3 keeps its own
    # suites.
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    # Python sets this; it would make an end without close_notify look like the end of a body.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.options |= ssl.OP_NO_TICKET


def load_roots(context: ssl.SSLContext, roots_pem: str) -> None:
    """Trust the given certificates.

    Raises:
        ConfigError: `net.roots`, not PEM certificates, or more than 256 KiB.
    """
    if len(roots_pem) > _MAX_ROOTS_PEM_BYTES:
        raise ConfigError(
            "net.roots", f"expected at most {_MAX_ROOTS_PEM_BYTES} bytes, found {len(roots_pem)}"
        )
    # Text around certificates may have any letters; `cadata` must not.
    ascii_pem = roots_pem.encode("ascii", "replace").decode()
    try:
        context.load_verify_locations(cadata=ascii_pem)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("net.roots", "not PEM certificates") from error


def present_certificate(context: ssl.SSLContext, pem: bytes, reason: str) -> None:
    """Give a client or server its certificate.

    Args:
        context: of either.
        pem: the certificate, the chain to its root, and its key. The ssl module takes them only by
            path; the file is in memory, and overwritten before it is closed.
        reason: of a refusal.

    Raises:
        ConfigError: with `reason`, not a certificate with its key.
        KernelError: no free descriptor.
    """

    def refuse_password() -> str:
        raise ValueError("the key is encrypted")

    descriptor = open_memory_file("identity", pem)
    try:
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=refuse_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(reason, "not a certificate with its key") from error
    finally:
        os.pwrite(descriptor, bytes(len(pem)), 0)
        os.close(descriptor)


def tls_error(error: ssl.SSLError, target: str) -> PeerError:
    """Return what a failed handshake or record means, by OpenSSL's reason and no other text.

    `net.identity_expired` is the peer's claim about the certificate that it was shown.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _CERTIFICATE_REASONS.get(error.verify_code, "net.certificate")
        return PeerError(reason, f"{target}: certificate refused: {error.verify_message}")
    if isinstance(error, ssl.SSLZeroReturnError) or is_cut_off(error):
        return PeerError("net.closed", f"{target}: closed the connection")
    alert = getattr(error, "reason", None) or "TLS failed"
    reason = "net.identity_expired" if alert == _EXPIRED_ALERT else "net.tls"
    return PeerError(reason, f"{target}: {alert}")


def is_cut_off(error: OSError) -> bool:
    """Whether the peer's bytes ended without close_notify.

    Python 3.11.2, which may run this outside the guest, has no class for OpenSSL 3's error.
    """
    return isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", None) == _CUT_OFF
