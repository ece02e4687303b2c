"""Bundles of Sigstore: both contents, both signers, and each part that is not as it must be."""

import json
from typing import Any

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.signature.sigstore_bundle import (
    DsseEnvelope,
    MessageSignature,
    SigstoreBundle,
    parse_bundle,
)

DIGEST = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="
ENTRY: dict[str, Any] = {
    "logIndex": "7",
    "logId": {"keyId": DIGEST},
    "integratedTime": "1700000000",
    "inclusionPromise": {"signedEntryTimestamp": "cHJvbWlzZQ=="},
    "canonicalizedBody": "e30=",
}
ENVELOPE: dict[str, Any] = {
    "payload": "e30=",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [{"sig": "c2ln", "keyid": ""}],
}
MESSAGE: dict[str, Any] = {
    "messageDigest": {"algorithm": "SHA2_256", "digest": DIGEST},
    "signature": "c2ln",
}
PUBLIC_KEY: dict[str, Any] = {"publicKey": {"hint": ""}, "tlogEntries": [ENTRY]}


def bundle(material: object = PUBLIC_KEY, **content: object) -> bytes:
    value = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
        **(content or {"dsseEnvelope": ENVELOPE}),
    }
    return json.dumps(value).encode()


def with_entry(**changes: object) -> bytes:
    return bundle({**PUBLIC_KEY, "tlogEntries": [{**ENTRY, **changes}]})


def test_envelope_is_read_with_its_log_entry() -> None:
    read = parse_bundle(bundle())
    assert isinstance(read, SigstoreBundle)
    assert read.content == DsseEnvelope(
        payload_type="application/vnd.in-toto+json", payload=b"{}", signature=b"sig"
    )
    assert read.certificate is None
    (entry,) = read.entries
    assert (entry.log_index, entry.integrated_time) == (7, 1_700_000_000)
    assert (entry.log_id, entry.body, entry.promise) == ("ab" * 32, b"{}", b"promise")


def test_signature_over_the_artifact_is_read_with_its_certificate() -> None:
    read = parse_bundle(bundle({"certificate": {"rawBytes": "AQI="}}, messageSignature=MESSAGE))
    assert read == SigstoreBundle(
        certificate=b"\1\2",
        entries=(),
        content=MessageSignature(sha256=b"\xab" * 32, signature=b"sig"),
    )


@pytest.mark.parametrize("promise", [None, {}])
def test_entry_without_a_promise_is_none(promise: object) -> None:
    assert parse_bundle(with_entry(inclusionPromise=promise)).entries == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"[]", "bundle.bundle", id="no object"),
        pytest.param(
            bundle(
                mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2",
                dsseEnvelope=ENVELOPE,
            ),
            "bundle.version",
            id="an older version",
        ),
        pytest.param(bundle(None), "bundle.verificationMaterial", id="no material"),
        pytest.param(bundle({}), "bundle.signer", id="no signer"),
        pytest.param(
            bundle({**PUBLIC_KEY, "certificate": {"rawBytes": "AQI="}}), "bundle.signer", id="two"
        ),
        pytest.param(
            bundle({"x509CertificateChain": {"certificates": []}}), "bundle.signer", id="older form"
        ),
        pytest.param(
            bundle({**PUBLIC_KEY, "x509CertificateChain": {"certificates": []}}),
            "bundle.signer",
            id="a chain beside the key",
        ),
        pytest.param(
            bundle(dsseEnvelope=ENVELOPE, messageSignature=MESSAGE), "bundle.content", id="both"
        ),
        pytest.param(
            bundle(dsseEnvelope={**ENVELOPE, "signatures": ENVELOPE["signatures"] * 2}),
            "bundle.signatures",
            id="two signatures",
        ),
        pytest.param(
            bundle(dsseEnvelope={**ENVELOPE, "signatures": {"0": ENVELOPE["signatures"][0]}}),
            "bundle.signatures",
            id="signatures that are no array",
        ),
        pytest.param(
            bundle(dsseEnvelope={**ENVELOPE, "payloadType": 1}), "bundle.payloadType", id="no text"
        ),
        pytest.param(
            bundle(dsseEnvelope={**ENVELOPE, "payloadType": "\u00e9"}), "bundle.payloadType", id="é"
        ),
        pytest.param(
            bundle(messageSignature={**MESSAGE, "messageDigest": {"algorithm": "SHA2_512"}}),
            "bundle.messageDigest",
            id="another digest",
        ),
        pytest.param(
            bundle(
                messageSignature={
                    **MESSAGE,
                    "messageDigest": {"algorithm": "SHA2_256", "digest": "AAAA"},
                }
            ),
            "bundle.messageDigest",
            id="short digest",
        ),
        pytest.param(
            bundle({**PUBLIC_KEY, "tlogEntries": [ENTRY] * 9}), "bundle.tlogEntries", id="nine"
        ),
        pytest.param(
            bundle({**PUBLIC_KEY, "tlogEntries": 1}), "bundle.tlogEntries", id="entries of 1"
        ),
        pytest.param(with_entry(inclusionPromise=5), "bundle.inclusionPromise", id="promise of 5"),
        pytest.param(with_entry(logIndex=7), "bundle.logIndex", id="a number for a text"),
        pytest.param(with_entry(logIndex="-7"), "bundle.logIndex", id="below zero"),
        pytest.param(with_entry(logIndex="\u0667"), "bundle.logIndex", id="other digits"),
        pytest.param(with_entry(logIndex="9" * 16), "rekor.index", id="beyond what is exact"),
        pytest.param(with_entry(logIndex="9" * 17), "bundle.logIndex", id="long"),
        pytest.param(with_entry(logId={"keyId": "AAAA"}), "rekor.log_id", id="short name of a log"),
        pytest.param(with_entry(canonicalizedBody="e31="), "bundle.canonicalizedBody", id="bits"),
    ],
)
def test_bundle_of_another_form_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_bundle(data)
    assert refused.value.reason == f"signature.{reason}"
