"""Quotes of versions 4 and 5 as a second, independent encoder lays them out, and their refusals."""

import struct

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.evidence.tdx_quote import parse_qe_report, parse_tdx_quote
from tests.fakes.platforms.tdx_quote import QE_SIGNER, VENDOR_INTEL, FakeTdx, measurement

REPORT_DATA = bytes(range(64))
V4_BODY, V4_LENGTH = 48, 48 + 584
SIGNATURE_DATA = V4_LENGTH + 4
OUTER, NESTED = SIGNATURE_DATA + 128, SIGNATURE_DATA + 128 + 6
AUTHENTICATION = NESTED + 384 + 64
CHAIN = AUTHENTICATION + 2 + 32


def patched(data: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("version", "body_type", "signed_bytes"), [(4, 2, 632), (5, 2, 638), (5, 3, 702)]
)
def test_parse_quote_reads_every_field(version: int, body_type: int, signed_bytes: int) -> None:
    domain = FakeTdx(
        version=version,
        body_type=body_type,
        mrconfigid=measurement("document"),
        mrowner=measurement("owner"),
        mrownerconfig=measurement("owner config"),
        mrsignerseam=measurement("signer"),
        rtmrs=[measurement(f"rtmr {index}") for index in range(4)],
        mrservicetd=measurement("service"),
        seam_attributes=5,
    )
    encoded = domain.quote(REPORT_DATA)
    quote = parse_tdx_quote(encoded)
    assert (quote.version, quote.qe_vendor_id) == (version, VENDOR_INTEL)
    assert quote.signed == encoded[:signed_bytes]
    body = quote.body
    for name in (
        "tee_tcb_svn",
        "mrseam",
        "mrsignerseam",
        "seam_attributes",
        "td_attributes",
        "xfam",
        "mrtd",
        "mrconfigid",
        "mrowner",
        "mrownerconfig",
    ):
        assert getattr(body, name) == getattr(domain, name), name
    assert body.rtmrs == tuple(domain.rtmrs)
    assert body.report_data == REPORT_DATA
    is_1_5 = body_type == 3
    assert body.mrservicetd == (domain.mrservicetd if is_1_5 else None)
    assert body.tee_tcb_svn_2 == (domain.tee_tcb_svn_2 if is_1_5 else None)
    certification = quote.certification
    assert certification.authentication_data == domain.qe_authentication
    assert certification.chain_pem == domain.pck.chain_pem
    assert certification.report == domain.qe_report()
    report = parse_qe_report(certification.report)
    assert (report.mrsigner, report.isv_prod_id, report.isv_svn) == (QE_SIGNER, 2, 8)
    assert report.report_data == domain.qe_report()[320:]
    assert report.attributes == domain.qe_attributes


def test_parse_quote_lets_a_host_hand_over_its_whole_buffer() -> None:
    plain = FakeTdx().quote(REPORT_DATA)
    assert parse_tdx_quote(plain + bytes(100)) == parse_tdx_quote(plain)


QUOTE = FakeTdx().quote(REPORT_DATA)
NESTED_BYTES = len(QUOTE) - NESTED


def with_signature_data(data: bytes) -> bytes:
    return QUOTE[:V4_LENGTH] + struct.pack("<I", len(data)) + data


def with_certification(authentication: bytes, chain: bytes) -> bytes:
    """The quote with another end: authentication data of the QE, and the PCK's chain."""
    nested = QUOTE[NESTED:AUTHENTICATION] + struct.pack("<H", len(authentication)) + authentication
    nested += struct.pack("<HI", 5, len(chain)) + chain
    outer = struct.pack("<HI", 6, len(nested)) + nested
    return with_signature_data(QUOTE[SIGNATURE_DATA:OUTER] + outer)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "tdx_quote.truncated", id="empty"),
        pytest.param(QUOTE[:40], "tdx_quote.truncated", id="half a header"),
        pytest.param(QUOTE[:600], "tdx_quote.truncated", id="half a body"),
        pytest.param(QUOTE[:-1], "tdx_quote.truncated", id="one byte short"),
        pytest.param(QUOTE + bytes(99) + b"\1", "tdx_quote.trailing", id="more than padding"),
        pytest.param(patched(QUOTE, 0, "<H", 3), "tdx_quote.version", id="version 3"),
        pytest.param(patched(QUOTE, 0, "<H", 6), "tdx_quote.version", id="version 6"),
        pytest.param(patched(QUOTE, 2, "<H", 3), "tdx_quote.key_type", id="P-384"),
        pytest.param(patched(QUOTE, 4, "<I", 0), "tdx_quote.tee_type", id="SGX"),
        pytest.param(
            FakeTdx(version=5, body_type=1).quote(REPORT_DATA),
            "tdx_quote.body_type",
            id="an enclave's body",
        ),
        pytest.param(
            patched(FakeTdx(version=5).quote(REPORT_DATA), 50, "<I", 648),
            "tdx_quote.body_type",
            id="body type 2 of the size of 3",
        ),
        pytest.param(patched(QUOTE, V4_LENGTH, "<I", 1 << 31), "tdx_quote.truncated", id="2 GiB"),
        pytest.param(
            patched(QUOTE + bytes(8), V4_LENGTH, "<I", len(QUOTE) - SIGNATURE_DATA + 8),
            "tdx_quote.trailing",
            id="signature data with a gap",
        ),
        pytest.param(
            patched(
                with_signature_data(QUOTE[SIGNATURE_DATA:] + b"x"),
                OUTER + 2,
                "<I",
                NESTED_BYTES + 1,
            ),
            "tdx_quote.trailing",
            id="a byte behind the chain",
        ),
        pytest.param(
            patched(QUOTE, OUTER, "<H", 5), "tdx_quote.certification_type", id="no QE report"
        ),
        pytest.param(
            patched(QUOTE, CHAIN, "<H", 1), "tdx_quote.certification_type", id="PPID, not a chain"
        ),
        pytest.param(patched(QUOTE, OUTER + 2, "<I", 400), "tdx_quote.truncated", id="nested cut"),
        pytest.param(
            patched(QUOTE, AUTHENTICATION, "<H", 1025),
            "tdx_quote.qe_authentication",
            id="authentication data too long",
        ),
    ],
)
def test_parse_quote_refuses(data: bytes, reason: str) -> None:
    assert parse_tdx_quote(QUOTE).version == 4
    with pytest.raises(FormatError) as caught:
        parse_tdx_quote(data)
    assert caught.value.reason == reason


def test_parse_quote_caps_the_whole_and_its_parts() -> None:
    longest = with_certification(bytes(1024), 12 * 1024 * b"-")
    certification = parse_tdx_quote(longest.ljust(16 * 1024, b"\0")).certification
    assert len(certification.authentication_data) == 1024
    assert len(certification.chain_pem) == 12 * 1024
    for data, reason in (
        (longest.ljust(16 * 1024 + 1, b"\0"), "tdx_quote.length"),
        (with_certification(bytes(1025), b"-"), "tdx_quote.qe_authentication"),
        (with_certification(b"", (12 * 1024 + 1) * b"-"), "tdx_quote.chain"),
    ):
        with pytest.raises(LimitExceededError) as caught:
            parse_tdx_quote(data)
        assert caught.value.reason == reason


@pytest.mark.parametrize("length", [383, 385])
def test_parse_qe_report_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_qe_report(bytes(length))
    assert caught.value.reason in {"tdx_quote.truncated", "tdx_quote.trailing"}
