"""Requests and evidence of Secure Execution, and what its HMAC covers."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.se import (
    SeEvidence,
    SeRequest,
    encode_se_request,
    encode_user_data,
    measured_items,
    parse_se_evidence,
    parse_se_request,
)
from ccinit.values import replace

REQUEST = SeRequest(
    blob=b"arcb" * 100,
    additional_bytes=64,
    sealed_key=b"k" * 92,
    sealed_nonce=b"n" * 44,
    header_tags=bytes(range(208)),
)
EVIDENCE = SeEvidence(
    measurement=b"m" * 64,
    additional=b"a" * 64,
    user_data=b"u" * 112,
    config_uid=b"c" * 16,
    sealed_key=REQUEST.sealed_key,
    sealed_nonce=REQUEST.sealed_nonce,
    header_tags=REQUEST.header_tags,
)


def test_request_is_read_and_written() -> None:
    text = encode_se_request(REQUEST)
    assert parse_se_request(text) == REQUEST
    value = json.loads(text)
    assert value["request_blob"] == encode_base64(REQUEST.blob)
    assert (value["measurement_size"], value["additional_size"]) == (64, 64)
    assert parse_se_request(encode_se_request(replace(REQUEST, additional_bytes=0)))


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("request_blob", "", "se_request.request_blob"),
        ("request_blob", encode_base64(bytes(32 * 1024 + 1)), "se_request.request_blob"),
        ("request_blob", [1, 2], "se_request.request_blob"),
        ("measurement_size", 32, "se_request.measurement_size"),
        ("measurement_size", "64", "se_request.measurement_size"),
        ("additional_size", -1, "se_request.additional_size"),
        ("additional_size", 0x8001, "se_request.additional_size"),
        ("additional_size", True, "se_request.additional_size"),
        ("encr_measurement_key", encode_base64(bytes(1025)), "se_request.encr_measurement_key"),
        ("encr_request_nonce", "A", "se_request.encr_request_nonce"),
        ("image_hdr_tags", encode_base64(bytes(207)), "se_request.image_hdr_tags"),
        ("runtime_data_digest", "", "se_request.members"),
    ],
)
def test_request_of_another_form_is_refused(member: str, value: object, reason: str) -> None:
    changed = {**json.loads(encode_se_request(REQUEST)), member: value}
    with pytest.raises(FormatError) as refused:
        parse_se_request(json.dumps(changed).encode())
    assert refused.value.reason == reason


def test_request_is_capped() -> None:
    text = encode_se_request(REQUEST)
    assert parse_se_request(text.ljust(48 * 1024)) == REQUEST
    with pytest.raises(FormatError) as refused:
        parse_se_request(text.ljust(48 * 1024 + 1))
    assert refused.value.reason == "se_request.length"


def test_evidence_is_read_and_written_as_trustee_does() -> None:
    value: Any = EVIDENCE.to_json_value()
    assert parse_se_evidence(value) == EVIDENCE
    assert set(value) == {
        *("measurement", "additional_data", "user_data", "cuid"),
        *("encr_measurement_key", "encr_request_nonce", "image_hdr_tags"),
    }


@pytest.mark.parametrize(
    ("member", "size", "reason"),
    [
        ("measurement", 63, "se_evidence.measurement"),
        ("cuid", 17, "se_evidence.cuid"),
        ("user_data", 257, "se_evidence.user_data"),
        ("additional_data", 0x8001, "se_evidence.additional_data"),
        ("image_hdr_tags", 209, "se_evidence.image_hdr_tags"),
        ("encr_measurement_key", 0, "se_evidence.encr_measurement_key"),
        ("other", 1, "se_evidence.members"),
    ],
)
def test_evidence_of_another_form_is_refused(member: str, size: int, reason: str) -> None:
    changed = {**EVIDENCE.to_json_value(), member: encode_base64(bytes(size))}
    with pytest.raises(FormatError) as refused:
        parse_se_evidence(changed)
    assert refused.value.reason == reason


def test_user_data_begin_with_the_report_data() -> None:
    assert encode_user_data(b"r" * 64, b"d" * 48) == b"r" * 64 + b"d" * 48
    for sizes in ((48, 48), (64, 32), (64, 0)):
        with pytest.raises(FormatError) as refused:
            encode_user_data(bytes(sizes[0]), bytes(sizes[1]))
        assert refused.value.reason == "se_user_data.length"


def test_measured_items_are_those_of_s390_tools() -> None:
    """The vector `measurement_all` of s390-tools (rust/pv/src/uvattest/attest.rs)."""
    evidence = replace(
        EVIDENCE, config_uid=b"\5" * 16, user_data=b"\7" * 256, additional=b"\x09" * 128
    )
    tags = b"\1" * 64 + b"\2" * 64 + b"\3" * 64 + b"\4" * 16
    items = measured_items(evidence, tags, b"\x08" * 16)
    assert hmac.new(b"\x41" * 64, items, hashlib.sha512).hexdigest() == (
        "88794c62cce7bcf26216deb3f48f13fea6374b6d7e35bcc5c2ce68121db6f45d"
        "fc8c1718564635 49408bf8e7d1aca11efad0a878af97dc9e21a1fc2a32f3a675".replace(" ", "")
    )
