"""What a pinned context is made of; what it refuses is in the integration tests."""

import os
import ssl
from contextlib import nullcontext

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ccinit.errors import ConfigError
from ccinit.kernel.memory_file import open_memory_file
from ccinit.net import tls
from ccinit.net.tls import narrow, pinned_context, present_certificate, tls_error
from tests.fakes.network.tls_server import ec_key, make_authority

NO_CHECK_TIME = 0x200000


def test_context_trusts_the_given_roots_under_tls_1_3_only() -> None:
    roots = make_authority(), make_authority()
    context = pinned_context("".join(root.pem for root in roots), check_time=True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.security_level == 2
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert len(context.get_ca_certs()) == 2


@pytest.mark.parametrize("protocol", [ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER])
def test_what_python_and_openssl_allow_by_themselves_is_not_relied_on(protocol: int) -> None:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.options &= ~ssl.OP_NO_TICKET
    narrow(context)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.security_level == 2
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert context.options & ssl.OP_NO_TICKET


def test_only_the_dates_depend_on_the_clock() -> None:
    pem = make_authority().pem
    with_clock = pinned_context(pem, check_time=True)
    without = pinned_context(pem, check_time=False)
    assert with_clock.verify_flags & NO_CHECK_TIME == 0
    assert without.verify_flags == with_clock.verify_flags | NO_CHECK_TIME


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----", "é", "x" * 300_000]
)
def test_text_without_a_root_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        pinned_context(text, check_time=True)
    assert refused.value.reason == "net.roots"


@pytest.mark.parametrize("around", ["Főtanúsítvány\n====\n{}", "{}# Größe\n", "{}Ω{}"])
def test_text_around_roots_may_have_any_letters(around: str) -> None:
    """Bundles of roots name authorities there, each in its own language."""
    root = make_authority()
    context = pinned_context(around.replace("{}", root.pem), check_time=True)
    assert len(context.get_ca_certs()) == 1
    within = root.pem.replace("MII", "MIÍ", 1)
    with pytest.raises(ConfigError) as refused:
        pinned_context(root.pem + within, check_time=True)
    assert refused.value.reason == "net.roots"


def test_roots_have_a_cap() -> None:
    pem = make_authority().pem
    count = (256 << 10) // len(pem)
    assert pinned_context(pem * count, check_time=True).get_ca_certs()
    with pytest.raises(ConfigError) as refused:
        pinned_context(pem * (count + 1), check_time=True)
    assert refused.value.reason == "net.roots"


def test_client_shows_a_certificate_whose_key_it_has() -> None:
    authority = make_authority()
    key, certificate = authority.issue()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    other = ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = certificate.public_bytes(Encoding.PEM)
    context = pinned_context(authority.pem, check_time=True)
    present_certificate(context, private + public, "net.client_certificate")
    for content in (b"", public, private, other + public, locked + public):
        with pytest.raises(ConfigError) as refused:
            present_certificate(context, content, "net.client_certificate")
        assert refused.value.reason == "net.client_certificate"


@pytest.mark.parametrize("is_good", [True, False])
def test_file_that_a_key_was_loaded_from_is_overwritten(
    monkeypatch: pytest.MonkeyPatch, *, is_good: bool
) -> None:
    authority = make_authority()
    key, certificate = authority.issue()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = private + certificate.public_bytes(Encoding.PEM) if is_good else private
    kept: list[int] = []

    def keep(name: str, content: bytes) -> int:
        kept.append(open_memory_file(name, content))
        return os.dup(kept[0])

    monkeypatch.setattr(tls, "open_memory_file", keep)
    with nullcontext() if is_good else pytest.raises(ConfigError):
        present_certificate(pinned_context(authority.pem, check_time=True), pem, "net.identity")
    with os.fdopen(kept[0], "rb") as file:
        assert os.pread(file.fileno(), len(pem) + 1, 0) == bytes(len(pem))


def test_server_certificate_is_no_root() -> None:
    _key, certificate = make_authority().issue()
    with pytest.raises(ConfigError) as refused:
        pinned_context(certificate.public_bytes(Encoding.PEM).decode(), check_time=True)
    assert refused.value.reason == "net.roots"


def test_tls_failures_have_reasons() -> None:
    assert tls_error(ssl.SSLEOFError(), "x").reason == "net.closed"
    assert tls_error(ssl.SSLZeroReturnError(), "x").reason == "net.closed"
    assert tls_error(ssl.SSLError(), "x").reason == "net.tls"


def test_certificate_that_is_refused_is_told_in_openssls_words() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 20, "unable to get local issuer certificate"
    said = tls_error(error, "192.0.2.7:8443")
    assert said.reason == "net.certificate"
    assert said.detail.endswith("certificate refused: unable to get local issuer certificate")
