"""Logs, certificates and bundles: each refusal with the reason of the step it meets (R61)."""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.fakes.images import signatures as fake
from tests.fakes.images.signatures import NOW, Attachment, b64, classic, classic_layer
from tests.unit.ccinit.pull.signature.signature_request import (
    CERTIFICATE,
    FULCIO,
    GOOD,
    IMAGE,
    KEY,
    LOG,
    NAME,
    OTHER,
    STRANGE_FULCIO,
    STRANGE_LOG,
    STRANGER,
    by_fulcio,
    by_key,
    judge,
    logged,
    payload,
    policy_of,
    refusal,
)


def entry_of(text: str, **members: object) -> str:
    entry = json.loads(text)
    entry["Payload"] |= members
    return json.dumps(entry)


def with_annotation(layer: tuple[bytes, dict[str, str]], text: str) -> Attachment:
    data, annotations = layer
    return classic((data, {**annotations, "dev.sigstore.cosign/bundle": text}))


LOGGED = classic_layer(payload(), KEY, log=LOG)
SET = LOGGED[1]["dev.sigstore.cosign/bundle"]
OTHER_LOGGED = classic_layer(payload(OTHER.digest), KEY, log=LOG)
SIGNATURE = base64.b64decode(LOGGED[1]["dev.cosignproject.cosign/signature"])
"""The one in question: ECDSA makes another one each time."""
VERIFIER = fake.public_pem(KEY)


def recorded(signature: bytes = SIGNATURE, verifier: bytes = VERIFIER) -> Attachment:
    """The signature with an entry of the log that says the given of it."""
    body = fake.hashedrekord(payload(), signature, verifier)
    return with_annotation(LOGGED, LOG.annotation(body))


LOG_CASES: dict[str, tuple[Attachment, str]] = {
    "no promise": (GOOD, "signature.log"),
    "another log's promise": (
        classic(classic_layer(payload(), KEY, log=STRANGE_LOG)),
        "signature.log",
    ),
    "another time than promised": (
        with_annotation(LOGGED, entry_of(SET, integratedTime=NOW + 1)),
        "signature.log",
    ),
    "a time that is no count": (
        with_annotation(LOGGED, entry_of(SET, integratedTime=-1)),
        "signature.rekor.time",
    ),
    "a member too much": (
        with_annotation(LOGGED, entry_of(SET, more=1)),
        "signature.rekor.members",
    ),
    "a log without a name": (
        with_annotation(LOGGED, entry_of(SET, logID="x")),
        "signature.rekor.log_id",
    ),
    "no JSON": (with_annotation(LOGGED, "{"), "signature.rekor.json"),
    "an entry about another image": (
        with_annotation(LOGGED, OTHER_LOGGED[1]["dev.sigstore.cosign/bundle"]),
        "signature.log_entry",
    ),
    "an entry about another signature": (
        recorded(signature=fake.sign(KEY, payload())),
        "signature.log_entry",
    ),
    "an entry about another signer": (
        recorded(verifier=fake.public_pem(STRANGER)),
        "signature.log_entry",
    ),
    "an entry about no signer": (recorded(verifier=b"x"), "signature.log_entry"),
    "an entry about two signers": (
        recorded(verifier=fake.pem(CERTIFICATE, CERTIFICATE).encode()),
        "signature.log_entry",
    ),
    "an entry of another kind": (
        with_annotation(LOGGED, LOG.annotation(b'{"kind":"x","apiVersion":"0.0.1","spec":{}}')),
        "signature.rekor.kind",
    ),
    "an entry of another version": (
        with_annotation(LOGGED, LOG.annotation(b'{"kind":"dsse","apiVersion":"0.0.2","spec":{}}')),
        "signature.rekor.kind",
    ),
}


@pytest.mark.parametrize("name", LOG_CASES)
def test_log_that_the_policy_names_must_have_recorded_this_signature(name: str) -> None:
    attachment, reason = LOG_CASES[name]
    policy = policy_of(by_key(**logged()))
    assert refusal(policy, attachment) == reason
    judge(policy, classic(LOGGED))
    judge(policy, recorded())


def test_entry_about_another_payload_is_refused() -> None:
    data, annotations = classic_layer(payload(), KEY)
    signature = fake.sign(KEY, data)
    annotations["dev.cosignproject.cosign/signature"] = b64(signature)
    body = fake.hashedrekord(payload(OTHER.digest), signature, fake.public_pem(KEY))
    annotations["dev.sigstore.cosign/bundle"] = LOG.annotation(body)
    assert refusal(policy_of(by_key(**logged())), classic((data, annotations))) == (
        "signature.log_entry"
    )


def certified(
    certificate: x509.Certificate = CERTIFICATE,
    *,
    chain: Sequence[x509.Certificate] = (FULCIO.intermediate, FULCIO.root),
    log: fake.Log | None = LOG,
) -> Attachment:
    return classic(classic_layer(payload(), KEY, log=log, certificate=certificate, chain=chain))


def test_certificate_that_was_good_when_recorded_is_a_signer() -> None:
    accepted = judge(policy_of(by_fulcio()), certified())
    assert accepted.reasons == (f"signed by {fake.SUBJECT}",)
    spelled = {fake.ISSUER_V2: b"\x0c" + bytes([len(fake.ISSUER)]) + fake.ISSUER.encode()}
    judge(policy_of(by_fulcio()), certified(FULCIO.issue(KEY, issuers=spelled)))
    both = {fake.ISSUER_V1: fake.ISSUER.encode(), **spelled}
    judge(policy_of(by_fulcio()), certified(FULCIO.issue(KEY, issuers=both)))


def late(seconds: int) -> fake.Log:
    return replace(LOG, time=NOW + seconds)


def issued_by(tag: bytes, more: int = 0) -> x509.Certificate:
    """One whose issuer would be right if nobody looked at how it is encoded."""
    encoded = tag + bytes([len(fake.ISSUER) + more]) + fake.ISSUER.encode()
    return FULCIO.issue(KEY, issuers={fake.ISSUER_V2: encoded})


SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CERTIFICATES: dict[str, tuple[Attachment, str]] = {
    "none": (classic(LOGGED), "signature.certificate"),
    "not recorded": (certified(log=None), "signature.log"),
    "expired when recorded": (certified(log=late(3600)), "signature.certificate"),
    "not yet good when recorded": (certified(log=late(-3600)), "signature.certificate"),
    "from another root": (
        certified(
            STRANGE_FULCIO.issue(KEY), chain=(STRANGE_FULCIO.intermediate, STRANGE_FULCIO.root)
        ),
        "signature.certificate",
    ),
    "without its chain": (certified(chain=()), "signature.certificate"),
    "for another use": (certified(FULCIO.issue(KEY, usage=SERVER)), "signature.certificate"),
    "for somebody else": (
        certified(FULCIO.issue(KEY, subject="x@team.example")),
        "signature.subject",
    ),
    "vouched for by others": (
        certified(FULCIO.issue(KEY, issuers={fake.ISSUER_V1: b"https://evil.example"})),
        "signature.issuer",
    ),
    "vouched for by two": (
        certified(
            FULCIO.issue(
                KEY, issuers={fake.ISSUER_V1: fake.ISSUER.encode(), fake.ISSUER_V2: b"\x0c\x01x"}
            )
        ),
        "signature.issuer",
    ),
    "vouched for in another type": (certified(issued_by(b"\x13")), "signature.issuer"),
    "vouched for in another length": (certified(issued_by(b"\x0c", 1)), "signature.issuer"),
    "vouched for by no text": (
        certified(FULCIO.issue(KEY, issuers={fake.ISSUER_V2: b"\x0c"})),
        "signature.issuer",
    ),
    "vouched for by nobody": (
        certified(FULCIO.issue(KEY, issuers={"1.3.6.1.4.1.57264.1.2": b"x"})),
        "signature.issuer",
    ),
    "of another key": (certified(FULCIO.issue(STRANGER)), "signature.key"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_r61_certificate_that_proves_nothing_is_refused(name: str) -> None:
    attachment, reason = CERTIFICATES[name]
    assert refusal(policy_of(by_fulcio()), attachment) == reason
    judge(policy_of(by_fulcio()), certified())


def test_entry_about_another_certificate_of_the_same_key_is_refused() -> None:
    chain = (FULCIO.intermediate, FULCIO.root)
    layer = classic_layer(payload(), KEY, certificate=CERTIFICATE, chain=chain)
    signature = base64.b64decode(layer[1]["dev.cosignproject.cosign/signature"])
    for certificate, is_good in ((CERTIFICATE, True), (FULCIO.issue(KEY), False)):
        body = fake.hashedrekord(payload(), signature, fake.pem(certificate).encode())
        attachment = with_annotation(layer, LOG.annotation(body))
        if is_good:
            judge(policy_of(by_fulcio()), attachment)
        else:
            assert refusal(policy_of(by_fulcio()), attachment) == "signature.log_entry"


def test_certificate_is_no_key_of_a_policy_with_keys() -> None:
    assert refusal(policy_of(by_key(STRANGER)), certified()) == "signature.key"


STATEMENT = fake.statement_of(IMAGE.digest)
NAMED_STATEMENT = fake.statement_of(IMAGE.digest, NAME)
DIGEST_ONLY = {"type": "matchDigest"}


def bundled(bundle: bytes) -> Attachment:
    return fake.bundle_artifact(IMAGE.manifest, bundle)


BUNDLES: dict[str, bytes] = {
    "statement": fake.envelope_bundle(STATEMENT, KEY, log=LOG),
    "document": fake.message_bundle(IMAGE.manifest, KEY, log=LOG),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_is_accepted_for_its_digest(name: str) -> None:
    signed = bundled(BUNDLES[name])
    judge(policy_of(by_key(signedIdentity=DIGEST_ONLY)), signed)
    judge(policy_of(by_key(signedIdentity=DIGEST_ONLY, **logged())), signed)
    # A bundle need not name the image; then a policy that wants a name is not satisfied.
    assert refusal(policy_of(by_key()), signed) == "signature.identity"
    stranger = policy_of(by_key(STRANGER, signedIdentity=DIGEST_ONLY))
    assert refusal(stranger, signed) == "signature.key"
    strange_log = policy_of(by_key(signedIdentity=DIGEST_ONLY, **logged(STRANGE_LOG)))
    assert refusal(strange_log, signed) == "signature.log"


def test_name_in_a_statement_counts_as_the_signatures() -> None:
    signed = bundled(fake.envelope_bundle(NAMED_STATEMENT, KEY))
    judge(policy_of(by_key(signedIdentity={"type": "matchRepository"})), signed)
    assert refusal(policy_of(by_key()), signed) == "signature.identity"  # it has no tag
    other = fake.envelope_bundle(fake.statement_of(IMAGE.digest, "registry.example/x"), KEY)
    assert refusal(policy_of(by_key()), bundled(other)) == "signature.identity"


def test_bundle_may_have_a_certificate() -> None:
    # The chain is not in a bundle: its roots are all authorities on the way.
    roots = b64(fake.pem(FULCIO.root, FULCIO.intermediate).encode())
    requirement = {**by_fulcio(caData=roots), "signedIdentity": DIGEST_ONLY}
    for bundle in (
        fake.envelope_bundle(STATEMENT, KEY, log=LOG, certificate=CERTIFICATE),
        fake.message_bundle(IMAGE.manifest, KEY, log=LOG, certificate=CERTIFICATE),
    ):
        judge(policy_of(requirement), bundled(bundle))
    late_one = fake.envelope_bundle(STATEMENT, KEY, log=late(3600), certificate=CERTIFICATE)
    assert refusal(policy_of(requirement), bundled(late_one)) == "signature.certificate"


def changed(bundle: bytes, **members: object) -> bytes:
    return json.dumps({**json.loads(bundle), **members}).encode()


DSSE = fake.envelope_bundle(STATEMENT, KEY)
BAD_BUNDLES: dict[str, tuple[bytes, str]] = {
    "statement about another image": (
        fake.envelope_bundle(fake.statement_of(OTHER.digest), KEY),
        "signature.digest",
    ),
    "document of another image": (fake.message_bundle(OTHER.manifest, KEY), "signature.digest"),
    "statement that is no signature": (
        fake.envelope_bundle(
            fake.statement_of(IMAGE.digest, predicate="https://slsa.dev/provenance/v1"), KEY
        ),
        "signature.statement.predicate",
    ),
    "payload of another type": (
        fake.envelope_bundle(STATEMENT, KEY, payload_type="text/plain"),
        "signature.payload.type",
    ),
    "older version": (
        changed(DSSE, mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"),
        "signature.bundle.version",
    ),
    "no signer": (changed(DSSE, verificationMaterial={}), "signature.bundle.signer"),
    "both contents": (changed(DSSE, messageSignature={}), "signature.bundle.content"),
    "no JSON": (b"{", "signature.bundle.json"),
}


@pytest.mark.parametrize("name", BAD_BUNDLES)
def test_r61_bundle_that_proves_nothing_is_refused(name: str) -> None:
    bundle, reason = BAD_BUNDLES[name]
    policy = policy_of(by_key(signedIdentity=DIGEST_ONLY))
    assert refusal(policy, bundled(bundle)) == reason
    judge(policy, bundled(DSSE))
