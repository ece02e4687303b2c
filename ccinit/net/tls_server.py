"""The server side of TLS with certificates on both sides, over bytes instead of a socket.

TLS 1.3 only (RFC 8446). A client certificate under the given roots is required, and its dates are
checked against the clock that the KBS has set. There are no tickets: every connection is
authenticated anew. The key exchange is the newest that both sides have: with OpenSSL 3.5,
X25519MLKEM768 (IANA group 0x11EC) is preferred over everything else. Sockets and deadlines are left
to the caller.
"""

import ssl
from typing import Final, cast

from ccinit.errors import PeerError
from ccinit.formats.planes.tls_hello import selected_group
from ccinit.net.tls import load_roots, narrow, present_certificate, tls_error
from ccinit.secret import Secret

_PEER: Final = "owner plane"
_RECORD_BYTES: Final = 16 * 1024


def server_context(identity: Secret, client_roots_pem: str) -> ssl.SSLContext:
    """Return a context that shows `identity` and accepts clients under the given roots.

    Args:
        identity: PEM, private key and chain.
        client_roots_pem: one or more PEM certificates.

    Raises:
        ConfigError: `net.roots`, `net.identity`: not PEM, or key and certificate do not match.
        KernelError: no free descriptor.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    narrow(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    load_roots(context, client_roots_pem)
    present_certificate(context, identity.reveal(), "net.identity")
    return context


class ServerConnection:
    """One connection: ciphertext in and out, plaintext in and out."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._hello = b""

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the client; empty bytes are its end of file."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def take(self) -> bytes:
        """Return ciphertext for the client."""
        return self._outgoing.read()

    def do_handshake(self) -> bool:
        """Continue the handshake; return whether it is done.

        Raises:
            PeerError: `net.certificate…`, `net.closed`, `net.tls`; `take` has the alert.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        except ssl.SSLError as error:
            raise tls_error(error, _PEER) from error
        else:
            done = True
        if not self._hello and self._outgoing.pending:
            self._hello = self._outgoing.read()
            self._outgoing.write(self._hello)
        return done

    def read(self) -> bytes | None:
        """Return plaintext, or None if there is none yet; empty bytes are the client's end.

        Raises:
            PeerError: `net.closed`, ended without close_notify; `net.tls`.
        """
        try:
            return self._tls.read(_RECORD_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise tls_error(error, _PEER) from error

    def write(self, data: bytes) -> None:
        """Encrypt `data`; `take` returns the ciphertext.

        Raises:
            PeerError: `net.tls`, after `read` has failed.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as error:
            raise tls_error(error, _PEER) from error

    def close(self) -> None:
        """Send close_notify; `take` returns it."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError):
            return  # OpenSSL wants the client's close_notify, which is not needed

    @property
    def group(self) -> int:
        """IANA number of the negotiated key exchange.

        Raises:
            FormatError: `tls.hello`, our own library did not send a TLS 1.3 hello.
        """
        return selected_group(self._hello)

    def peer_names(self) -> tuple[str, tuple[str, ...]]:
        """Return common name (or nothing) and URIs of the client's verified certificate.

        Raises:
            PeerError: `net.certificate`, there is none.
        """
        certificate = self._tls.getpeercert()
        if not certificate:
            raise PeerError("net.certificate", "the client has shown no certificate")
        subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
        others = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
        names = [value for part in subject for kind, value in part if kind == "commonName"]
        return "".join(names[:1]), tuple(value for kind, value in others if kind == "URI")
