"""A log's promise and what it is about: canonical bytes, and all that is not as it must be."""

import json
from typing import Any

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.signature.rekor import (
    MAX_ENTRY_BYTES,
    LogEntry,
    Recorded,
    parse_body,
    parse_set,
)

PAYLOAD: dict[str, Any] = {
    "body": "e30=",
    "integratedTime": 1_700_000_000,
    "logIndex": 2**53 - 1,
    "logID": "0123456789abcdef" * 4,
}
VERIFIER = "LS0tLS0="
DIGEST = "00" * 32
HASHEDREKORD: dict[str, Any] = {
    "apiVersion": "0.0.1",
    "kind": "hashedrekord",
    "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": DIGEST}},
        "signature": {"content": "c2ln", "publicKey": {"content": VERIFIER}},
    },
}
DSSE: dict[str, Any] = {
    "apiVersion": "0.0.1",
    "kind": "dsse",
    "spec": {
        "envelopeHash": {"algorithm": "sha256", "value": "11" * 32},
        "payloadHash": {"algorithm": "sha256", "value": DIGEST},
        "signatures": [{"signature": "c2ln", "verifier": VERIFIER}],
    },
}


def encode_set(**changes: object) -> bytes:
    payload = {name: value for name, value in {**PAYLOAD, **changes}.items() if value != "absent"}
    return json.dumps({"SignedEntryTimestamp": "cHJvbWlzZQ==", "Payload": payload}).encode()


def test_promise_is_over_the_canonical_form_however_it_came() -> None:
    entry = parse_set(encode_set())
    assert entry == LogEntry(
        body=b"{}",
        integrated_time=1_700_000_000,
        log_index=2**53 - 1,
        log_id=PAYLOAD["logID"],
        promise=b"promise",
    )
    assert entry.signed_bytes() == canonical_json(PAYLOAD)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"[]", "type", id="no object"),
        pytest.param(encode_set(more=1), "members", id="a member more"),
        pytest.param(encode_set(logIndex="absent"), "members", id="a member less"),
        pytest.param(encode_set(body={}), "body", id="a body that is no text"),
        pytest.param(encode_set(body="e31="), "body", id="stray bits"),
        pytest.param(encode_set(body="e30"), "body", id="no padding"),
        pytest.param(encode_set(integratedTime=True), "time", id="true for a time"),
        pytest.param(encode_set(integratedTime="1"), "time", id="text for a time"),
        pytest.param(encode_set(integratedTime=-1), "time", id="before 1970"),
        pytest.param(encode_set(integratedTime=1.5), "number", id="half a second"),
        pytest.param(encode_set(logIndex=2**53), "number", id="beyond what is exact"),
        pytest.param(encode_set(logIndex=None), "index", id="no index"),
        pytest.param(encode_set(logID="AB" * 32), "log_id", id="upper case"),
        pytest.param(encode_set(logID="ab" * 31), "log_id", id="short"),
        pytest.param(encode_set(logID='"' + "a" * 63), "log_id", id="an escape"),
        pytest.param(
            encode_set().replace(b'"logIndex"', b'"logIndex": 1, "logIndex"'),
            "duplicate",
            id="a member twice",
        ),
        pytest.param(encode_set() + b" " * MAX_ENTRY_BYTES, "length", id="too long"),
    ],
)
def test_promise_of_another_form_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_set(data)
    assert refused.value.reason == f"signature.rekor.{reason}"


@pytest.mark.parametrize("body", [HASHEDREKORD, DSSE])
def test_body_says_what_was_recorded(body: dict[str, Any]) -> None:
    assert parse_body(json.dumps(body).encode()) == Recorded(
        payload_sha256=DIGEST, signature=b"sig", verifier_pem=b"-----"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param([], "members", id="no object"),
        pytest.param({**DSSE, "kind": "rekord"}, "kind", id="another kind"),
        pytest.param({**DSSE, "apiVersion": "0.0.2"}, "kind", id="another version"),
        pytest.param({**DSSE, "spec": None}, "members", id="no content"),
        pytest.param(
            {**DSSE, "spec": {**DSSE["spec"], "signatures": DSSE["spec"]["signatures"] * 2}},
            "signatures",
            id="two signatures",
        ),
        pytest.param(
            {**DSSE, "spec": {**DSSE["spec"], "signatures": {"0": DSSE["spec"]["signatures"][0]}}},
            "signatures",
            id="signatures that are no array",
        ),
        pytest.param(
            {**DSSE, "spec": {**DSSE["spec"], "payloadHash": {"algorithm": "md5", "value": "0"}}},
            "hash",
            id="another hash",
        ),
        pytest.param(
            {**DSSE, "spec": {**DSSE["spec"], "payloadHash": {"algorithm": "sha256", "value": 0}}},
            "hash",
            id="a hash that is no text",
        ),
        pytest.param(
            {**DSSE, "spec": {**DSSE["spec"], "signatures": [{"signature": "c2ln"}]}},
            "members",
            id="no signer",
        ),
        pytest.param(
            {**HASHEDREKORD, "spec": {**HASHEDREKORD["spec"], "signature": {"content": 1}}},
            "members",
            id="no key",
        ),
    ],
)
def test_body_of_another_form_is_refused(body: object, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_body(json.dumps(body).encode())
    assert refused.value.reason == f"signature.rekor.{reason}"
