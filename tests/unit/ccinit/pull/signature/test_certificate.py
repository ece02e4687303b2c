"""Certificates of a policy or a signature: what the library balks at is told in one way."""

import base64

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import FormatError
from ccinit.pull.signature.certificate import (
    MAX_CERTIFICATES,
    load_der_certificate,
    load_pem_certificates,
)
from tests.fakes.tls_server import make_authority

DER = make_authority().certificate.public_bytes(Encoding.DER)
NAME_AT = DER.index(b"\x0c\x04root")
VERSION_AT = DER.index(bytes.fromhex("a003020102"))


def pem(der: bytes) -> bytes:
    body = base64.b64encode(der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"


def test_certificates_are_loaded_from_either_form() -> None:
    one = load_der_certificate(DER, "test.reason")
    assert load_pem_certificates(2 * pem(DER), "test.reason") == (one, one)


@pytest.mark.parametrize(
    ("place", "byte"),
    [
        pytest.param(VERSION_AT + 4, 0x3F, id="no such version"),
        pytest.param(VERSION_AT + 7, 0xFF, id="negative serial number"),
        pytest.param(NAME_AT, 0x03, id="a name that is bits"),
        pytest.param(NAME_AT + 2, 0xBE, id="a name that is no text"),
        pytest.param(NAME_AT - 1, 0x06, id="a country of more than two letters"),
    ],
)
def test_certificate_that_the_library_balks_at_is_refused(place: int, byte: int) -> None:
    changed = bytearray(DER)
    changed[place] = byte
    for load in (
        lambda: load_der_certificate(bytes(changed), "test.reason"),
        lambda: load_pem_certificates(pem(bytes(changed)), "test.reason"),
    ):
        with pytest.raises(FormatError) as refused:
            load()
        assert refused.value.reason == "test.reason"


@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\n", pem(b"\x30\x00")])
def test_text_without_a_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        load_pem_certificates(data, "test.reason")
    assert refused.value.reason == "test.reason"


def test_chain_beyond_the_cap_is_refused() -> None:
    assert len(load_pem_certificates(MAX_CERTIFICATES * pem(DER), "test.reason")) == 8
    with pytest.raises(FormatError) as refused:
        load_pem_certificates((MAX_CERTIFICATES + 1) * pem(DER), "test.reason")
    assert "more than 8" in refused.value.detail
