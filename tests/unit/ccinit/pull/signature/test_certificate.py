"""Certificates of a policy or a signature: what the library balks at is told in one way."""

import codecs
import encodings

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.errors import FormatError
from ccinit.pull.signature.certificate import (
    MAX_CERTIFICATES,
    load_der_certificate,
    load_pem_certificates,
)
from tests.fakes.documents.spoilt_certificates import pem, spoilt_certificates
from tests.fakes.network.tls_server import make_authority

DER = make_authority().certificate.public_bytes(Encoding.DER)


def test_certificates_are_loaded_from_either_form() -> None:
    one = load_der_certificate(DER, "test.reason")
    assert load_pem_certificates(2 * pem(DER), "test.reason") == (one, one)


@pytest.mark.parametrize("changed", spoilt_certificates(DER, "root"))
def test_certificate_that_the_library_balks_at_is_refused(changed: bytes) -> None:
    for load in (
        lambda: load_der_certificate(changed, "test.reason"),
        lambda: load_pem_certificates(pem(changed), "test.reason"),
    ):
        with pytest.raises(FormatError) as refused:
            load()
        assert refused.value.reason == "test.reason"


def test_name_for_which_a_guest_has_no_codec_is_refused() -> None:
    """Its Python has those of UTF-8 and ASCII; BMPString is UTF-16."""
    changed = bytearray(DER)
    changed[DER.index(b"\x0c\x04root")] = 0x1E
    assert load_der_certificate(bytes(changed), "test.reason").subject != ""
    codecs.unregister(encodings.search_function)
    try:
        with pytest.raises(FormatError) as refused:
            load_der_certificate(bytes(changed), "test.reason")
    finally:
        codecs.register(encodings.search_function)
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
