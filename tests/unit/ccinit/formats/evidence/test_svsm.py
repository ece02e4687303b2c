"""The messages between a guest below an SVSM and its verifier."""

import hashlib
import json

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.svsm import (
    SvsmRequest,
    encode_svsm_request,
    parse_svsm_evidence,
    parse_svsm_keys,
    parse_svsm_request,
    service_report_data,
)
from tests.unit.guest_owner.kbs.svsm_values import svsm_evidence

REQUEST = SvsmRequest(nonce=b"n" * 32, blob=b"b" * 68, secret=b"s" * 256, sealed=b"x" * 124)
EVIDENCE = svsm_evidence()


def test_request_is_read_and_written() -> None:
    assert parse_svsm_request(encode_svsm_request(REQUEST)) == REQUEST


@pytest.mark.parametrize(
    ("member", "size", "reason"),
    [
        ("nonce", 31, "svsm_request.nonce"),
        ("credential", 513, "svsm_request.credential"),
        ("secret", 0, "svsm_request.secret"),
        ("sealed", 513, "svsm_request.sealed"),
        ("more", 1, "svsm_request.members"),
    ],
)
def test_request_of_another_form_is_refused(member: str, size: int, reason: str) -> None:
    value = json.loads(encode_svsm_request(REQUEST))
    changed = {**value, member: encode_base64(bytes(size))}
    with pytest.raises(FormatError) as refused:
        parse_svsm_request(json.dumps(changed).encode())
    assert refused.value.reason == reason


def test_evidence_is_read_and_written() -> None:
    assert parse_svsm_evidence(EVIDENCE.to_json_value()) == EVIDENCE


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("snp", {}, "snp_evidence.members"),
        ("tpm", {}, "tpm_evidence.members"),
        ("manifest", encode_base64(bytes(1025)), "svsm_evidence.manifest"),
        ("ak", "", "svsm_evidence.ak"),
        ("activated", encode_base64(bytes(31)), "svsm_evidence.activated"),
        ("sealed", 7, "svsm_evidence.sealed"),
        ("more", "", "svsm_evidence.members"),
    ],
)
def test_evidence_of_another_form_is_refused(member: str, value: object, reason: str) -> None:
    changed = {**EVIDENCE.to_json_value(), member: value}
    with pytest.raises(FormatError) as refused:
        parse_svsm_evidence(changed)  # type: ignore[arg-type]
    assert refused.value.reason == reason


@pytest.mark.parametrize("value", [None, [], "", {"ek": "AAAA"}, {"ek": "AAAA", "ak": 1}])
def test_other_values_name_no_keys(value: object) -> None:
    with pytest.raises(FormatError) as refused:
        parse_svsm_keys(value)  # type: ignore[arg-type]
    assert refused.value.reason.startswith("svsm_keys.")


def test_report_covers_padded_nonce_and_manifest() -> None:
    expected = hashlib.sha512(b"n" * 48 + bytes(16) + b"manifest").digest()
    assert service_report_data(b"n" * 48, b"manifest") == expected
