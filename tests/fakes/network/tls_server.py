"""A TLS server on loopback that says exactly what a test tells it to, and makes its own keys.

One connection after another, each given to the test's handler in a thread of its own; what the
handler does to the connection is the test.
"""

import datetime as dt
import ipaddress
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Handler = Callable[[socket.socket], None]

DAY = dt.timedelta(days=1)


def ec_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def weak_key() -> Key:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A root certificate and its key."""

    key: Key
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        names: tuple[str, ...] = ("localhost",),
        *,
        key: Key | None = None,
        age: dt.timedelta = DAY,
        life: dt.timedelta = 30 * DAY,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        subject: str = "server",
        uris: tuple[str, ...] = (),
    ) -> tuple[Key, x509.Certificate]:
        """Sign a certificate, of a server by default; `age` is how long ago it became valid."""
        key = key or ec_key()
        start = dt.datetime.now(dt.UTC) - age
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(u) for u in uris]
        for text in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(text)))
            except ValueError:
                alternatives.append(x509.DNSName(text))
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        return key, builder.sign(self.key, SHA256())


def make_authority(
    key: Key | None = None, *, subject: str = "root", under: Authority | None = None
) -> Authority:
    """An authority of its own, or one whose certificate another one has signed."""
    key = key or ec_key()
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(under.certificate.subject if under else name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 400 * DAY)
        .not_valid_after(now + 400 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(under.key if under else key, SHA256())
    )
    return Authority(key=key, certificate=certificate)


def identity_pem(identity: tuple[Key, x509.Certificate], *above: Authority) -> bytes:
    """Return a key and its chain as a `tls-identity` resource has them."""
    key, certificate = identity
    chain = (certificate, *(one.certificate for one in above))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + b"".join(
        one.public_bytes(Encoding.PEM) for one in chain
    )


def server_context(identity: tuple[Key, x509.Certificate]) -> ssl.SSLContext:
    """A server that would speak anything; tests narrow it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # a weak key is for the client to refuse
    with tempfile.NamedTemporaryFile() as file:
        file.write(identity_pem(identity))
        file.flush()
        context.load_cert_chain(Path(file.name))
    return context


class TlsServer:
    """Listens on loopback until the test ends."""

    def __init__(
        self,
        context: ssl.SSLContext | None,
        handler: Handler,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Make one.

        Args:
            context: None speaks plain TCP.
            handler: is given each connection.
            address: to listen at.
            port: to listen at; 0 for a free one.
        """
        self._context = context
        self._handler = handler
        self._listener = socket.create_server((address, port))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.handshakes = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, path: str = "/", host: str = "localhost") -> str:
        return f"https://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown wakes the thread in accept; close alone does not. A late thread would accept from
        # another test's listener, by the number that this one's descriptor had.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._context is None:
                self._handler(connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as secured:
                self.handshakes += 1
                self._handler(secured)


def read_head(connection: socket.socket) -> bytes:
    """Read a request up to its empty line."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError
        head += data
    return head


def keep_silent(connection: socket.socket) -> None:
    """Answer nothing for as long as the other side is there."""
    while connection.recv(65536):
        pass


def answer(*parts: bytes) -> Handler:
    """Read a request, send `parts` one by one, close properly."""

    def handle(connection: socket.socket) -> None:
        read_head(connection)
        for part in parts:
            connection.sendall(part)
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    return handle
