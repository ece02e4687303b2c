"""A real registry for tests: Debian's docker-registry behind TLS on loopback.

Certificates are made on the fly; storage lives in the test's folder. Needs root and the tools tree
(`CCINIT_TOOLS`, or build/tools).
"""

import datetime as dt
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from rootfs_builder.container_image.location import Registries, write_image_to
from rootfs_builder.container_image.oci_layout import TAG, ContainerImage
from rootfs_builder.tools_tree import ToolsTree
from tests.integration.free_ports import free_port

TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")))
USER, PASSWORD = "owner", "correct horse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Files of a certificate authority and of a certificate for `localhost` that it signed."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def ca_pem(self) -> str:
        return self.ca.read_text()

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        # Not `create_default_context`: from Python 3.13 on that wants identifiers of keys, which a
        # guest's owner need not have in theirs.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and name
        context.load_verify_locations(self.ca)
        return context


LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.2")


def make_authority(directory: Path, names: tuple[str, ...] = LOOPBACK) -> Authority:
    """Make an authority; its certificate is alone in a folder, as skopeo wants it."""
    now = dt.datetime.now(dt.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])

    def builder(name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    leaf = (
        builder(name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (directory / "ca").mkdir(parents=True)
    authority = Authority(
        ca=directory / "ca" / "authority.crt",
        certificate=directory / "server.pem",
        key=directory / "server.key",
    )
    authority.ca.write_bytes(ca.public_bytes(Encoding.PEM))
    authority.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    authority.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return authority


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_client() -> tuple[str, bytes]:
    """Make a client's certificate, self-signed; return it and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "guest")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), pem


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry."""

    authority: Authority
    port: int

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"


@contextmanager
def running_registry(
    directory: Path,
    authority: Authority,
    *,
    with_password: bool = False,
    client_ca: Path | None = None,
) -> Iterator[Registry]:
    """Start docker-registry with its storage in `directory`; stop it at the end.

    Args:
        directory: made if absent.
        authority: of its own certificate.
        with_password: whether it asks for `USER` and `PASSWORD`.
        client_ca: roots of the certificates that it asks its clients for.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = directory / "config.yml"
    clients = f", clientcas: [{client_ca}]" if client_ca else ""
    config.write_text(_config(directory, authority, port, clients, with_password=with_password))
    if with_password:
        (directory / "htpasswd").write_text(f"{USER}:{_bcrypt(PASSWORD)}\n")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            TOOLS.command(
                ("docker-registry", "serve", config),
                directories=(
                    directory,
                    authority.certificate.parent,
                    *((client_ca.parent,) if client_ca else ()),
                ),
                environment={"OTEL_TRACES_EXPORTER": "none"},
            ),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for_port(process, port, directory / "log")
        yield Registry(authority=authority, port=port)
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(directory / "storage", ignore_errors=True)


def _config(
    directory: Path, authority: Authority, port: int, clients: str, *, with_password: bool
) -> str:
    auth = f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
    return (
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/storage}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', "
        f"tls: {{certificate: {authority.certificate}, key: {authority.key}{clients}}}}}\n"
        + (auth if with_password else "")
    )


def _bcrypt(password: str) -> str:
    """Hash as htpasswd does, the only form that docker-registry takes."""
    program = "print crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))"
    return TOOLS.run(("perl", "-e", program, password)).decode()


def _wait_for_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"docker-registry did not start: {log.read_text()[-2000:]}")


def push_image(image: ContainerImage, repository: str, ca: Path, credential: str = "") -> str:
    """Push an image to `host[:port]/repository`; return its reference there, by digest."""
    registries = Registries(tools=TOOLS, ca=ca, credential=credential)
    return write_image_to(image, f"docker://{repository}:{TAG}", registries)
