"""Which signatures an owner's policy accepts: each refusal with the reason of the check it meets.

The signatures come from an encoder of their own (`tests.fakes.signatures`). R61 of the threats is
the table's subject: missing, for another digest, for another name, by a certificate that was not
yet or no longer good, under an empty policy, malformed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ccinit.errors import CcinitError
from ccinit.formats.digest import parse_digest
from ccinit.pull.messages import (
    AcceptedImage,
    AttachedManifest,
    FoundSignatures,
    PolicyKey,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.pull.signatures import signature_job
from tests.fakes import signatures as fake
from tests.fakes.registry import digest_of, make_image, make_index
from tests.fakes.signatures import NOW, Attachment, b64, classic, classic_layer, payload_of

IMAGE = make_image([b"tar"])
OTHER = make_image([b"other"])
NAME = "registry.example/team/app"
REFERENCE = f"{NAME}@{IMAGE.digest}"
KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, fake.PrivateKey] = {
    "P-256": KEY,
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa.generate_private_key(65537, 2048),
}
LOG, STRANGE_LOG = fake.Log(), fake.Log()
FULCIO, STRANGE_FULCIO = fake.Authority(), fake.Authority()
CERTIFICATE = FULCIO.issue(KEY)


def payload(digest: str = IMAGE.digest, name: str = f"{NAME}:v1", **critical: object) -> bytes:
    return payload_of(digest, name, **critical)


def policy_of(*requirements: object, scopes: Mapping[str, object] | None = None) -> bytes:
    """A policy that rejects by default; the requirements are the repository's."""
    docker = {NAME: list(requirements), **(scopes or {})} if requirements else dict(scopes or {})
    value = {"default": [{"type": "reject"}], "transports": {"docker": docker}}
    return json.dumps(value).encode()


def by_key(key: fake.PrivateKey = KEY, **more: object) -> dict[str, object]:
    return {"type": "sigstoreSigned", "keyData": b64(fake.public_pem(key)), **more}


def logged(log: fake.Log = LOG) -> dict[str, object]:
    return {"rekorPublicKeyData": b64(fake.public_pem(log.key))}


def by_fulcio(authority: fake.Authority = FULCIO, **more: object) -> dict[str, object]:
    fulcio = {
        "caData": b64(fake.pem(authority.root).encode()),
        "oidcIssuer": fake.ISSUER,
        "subjectEmail": fake.SUBJECT,
        **more,
    }
    return {"type": "sigstoreSigned", "fulcio": fulcio, **logged()}


def judge(
    policy: bytes,
    *attachments: Attachment,
    reference: str = REFERENCE,
    documents: tuple[bytes, ...] = (IMAGE.manifest,),
    keys: Sequence[PolicyKey] = (),
) -> AcceptedImage:
    manifests = tuple(
        AttachedManifest(manifest=one.manifest, blobs=one.blobs) for one in attachments
    )
    request = SignatureRequest(
        reference=reference,
        policy=SignaturePolicy(document=policy, keys=tuple(keys)),
        found=FoundSignatures(documents=documents, manifests=manifests),
    )
    return signature_job(request, None)


def refusal(policy: bytes, *attachments: Attachment, reference: str = REFERENCE) -> str:
    with pytest.raises(CcinitError) as refused:
        judge(policy, *attachments, reference=reference)
    return refused.value.reason


GOOD = classic(classic_layer(payload(), KEY))


@pytest.mark.parametrize("kind", KEYS)
def test_signature_by_a_key_of_the_policy_is_accepted(kind: str) -> None:
    key = KEYS[kind]
    signed = classic(classic_layer(payload(), key))
    accepted = judge(policy_of(by_key(key)), signed)
    assert accepted.documents == (parse_digest(IMAGE.digest),)
    assert accepted.reasons == ("signed by key 1 of the policy",)
    assert refusal(policy_of(by_key(STRANGER)), signed) == "signature.key"


def test_policy_may_name_several_keys_or_resources_with_keys() -> None:
    both = [b64(fake.public_pem(key)) for key in (STRANGER, KEY)]
    accepted = judge(policy_of({"type": "sigstoreSigned", "keyDatas": both}), GOOD)
    assert accepted.reasons == ("signed by key 2 of the policy",)
    uri = "kbs:///default/cosign/key"
    released = PolicyKey(resource=uri, data=fake.public_pem(KEY))
    for spelling in ({"keyPath": uri}, {"keyPaths": [uri]}):
        policy = policy_of({"type": "sigstoreSigned", **spelling})
        judge(policy, GOOD, keys=[released])
        assert refusal(policy, GOOD) == "policy.key_path"


def test_one_good_signature_among_bad_ones_is_enough() -> None:
    bad = [
        classic_layer(payload(), STRANGER),
        classic_layer(payload(OTHER.digest), KEY),
        classic_layer(b"no payload", KEY),
        classic_layer(payload(), KEY, signature=b"\x30\x00"),
    ]
    judge(policy_of(by_key()), classic(*bad, classic_layer(payload(), KEY)))
    assert refusal(policy_of(by_key()), classic(*bad)) == "signature.refused"


def test_every_requirement_of_the_scope_must_hold() -> None:
    second = classic(classic_layer(payload(), STRANGER))
    policy = policy_of(by_key(), by_key(STRANGER))
    assert judge(policy, GOOD, second).reasons == ("signed by key 1 of the policy",) * 2
    assert refusal(policy, GOOD) == "signature.key"


CLAIMS: dict[str, tuple[Attachment, str]] = {
    "missing": (classic(), "signature.none"),
    "for another digest": (
        classic(classic_layer(payload(OTHER.digest), KEY)),
        "signature.digest",
    ),
    "for another repository": (
        classic(classic_layer(payload(name="registry.example/team/other:v1"), KEY)),
        "signature.identity",
    ),
    "for no name": (classic(classic_layer(payload(name=""), KEY)), "signature.identity"),
    "for what is no name": (classic(classic_layer(payload(name="A B"), KEY)), "signature.identity"),
    "not base64": (
        classic((payload(), {"dev.cosignproject.cosign/signature": "%%"})),
        "signature.base64",
    ),
    "without a signature": (classic((payload(), {})), "signature.key"),
    "too long": (
        classic(classic_layer(payload(), KEY, signature=bytes(4096))),
        "signature.key",
    ),
    "with a member too much": (
        classic(classic_layer(payload(host="evil"), KEY)),
        "signature.payload.members",
    ),
    "of another type": (
        classic(classic_layer(payload(type="atomic container signature"), KEY)),
        "signature.payload.type",
    ),
    "with a digest of another kind": (
        classic(classic_layer(payload("sha512:" + "0" * 128), KEY)),
        "signature.payload.digest",
    ),
    "changed after it was signed": (
        classic((payload(), classic_layer(payload(OTHER.digest), KEY)[1])),
        "signature.key",
    ),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_r61_signature_that_proves_nothing_is_refused(name: str) -> None:
    attachment, reason = CLAIMS[name]
    assert refusal(policy_of(by_key()), attachment) == reason
    judge(policy_of(by_key()), GOOD)


def test_signature_whose_text_has_newlines_is_read() -> None:
    data, annotations = classic_layer(payload(), KEY)
    broken = {name: text[:20] + "\n" + text[20:] + "\n" for name, text in annotations.items()}
    judge(policy_of(by_key()), classic((data, broken)))


def test_signature_over_the_index_is_one_for_the_manifest_it_leads_to() -> None:
    index = make_index(IMAGE, platforms=[("linux", "amd64")])
    documents = (index, IMAGE.manifest)
    reference = f"{NAME}@{digest_of(index)}"
    policy = policy_of(by_key())
    for digest in (digest_of(index), IMAGE.digest):
        signed = classic(classic_layer(payload(digest), KEY))
        accepted = judge(policy, signed, reference=reference, documents=documents)
        assert [str(one) for one in accepted.documents] == [digest_of(index), IMAGE.digest]
    with pytest.raises(CcinitError) as refused:
        judge(policy, signed, reference=reference, documents=(IMAGE.manifest,))
    assert refused.value.reason == "pull.manifest_digest"


IDENTITIES: list[tuple[dict[str, str] | None, str, bool]] = [
    # signedIdentity, docker-reference of the signature, accepted for NAME@digest
    (None, f"{NAME}:v1", True),
    (None, NAME, False),
    (None, f"{NAME}@{IMAGE.digest}", True),
    (None, "registry.example/team/app2:v1", False),
    (None, "registry.example:5000/team/app:v1", False),
    ({"type": "matchExact"}, f"{NAME}:v1", False),
    ({"type": "matchExact"}, f"{NAME}@{IMAGE.digest}", True),
    ({"type": "matchExact"}, f"{NAME}@{OTHER.digest}", False),
    ({"type": "matchRepoDigestOrExact"}, f"{NAME}:v1", True),
    ({"type": "matchRepository"}, NAME, True),
    ({"type": "matchRepository"}, "registry.example/team/other", False),
    ({"type": "matchDigest"}, "elsewhere.example/x:y", True),
    ({"type": "exactReference", "dockerReference": "dev.example/a:1"}, "dev.example/a:1", True),
    ({"type": "exactReference", "dockerReference": "dev.example/a:1"}, "dev.example/a:2", False),
    ({"type": "exactReference", "dockerReference": "dev.example/a:1"}, f"{NAME}:v1", False),
    ({"type": "exactRepository", "dockerRepository": "dev.example/a"}, "dev.example/a:2", True),
    ({"type": "exactRepository", "dockerRepository": "dev.example/a"}, "dev.example/ab", False),
    ({"type": "exactRepository", "dockerRepository": "busybox"}, "docker.io/library/busybox", True),
    (
        {"type": "remapIdentity", "prefix": "registry.example", "signedPrefix": "dev.example/r"},
        "dev.example/r/team/app:v1",
        True,
    ),
    (
        {"type": "remapIdentity", "prefix": NAME, "signedPrefix": "dev.example/b"},
        "dev.example/b:v1",
        True,
    ),
    (
        {
            "type": "remapIdentity",
            "prefix": "registry.example/tea",
            "signedPrefix": "dev.example/tea",
        },
        "dev.example/team/app:v1",
        False,
    ),
    (
        {"type": "remapIdentity", "prefix": "other.example", "signedPrefix": "dev.example"},
        f"{NAME}:v1",
        True,
    ),
]


@pytest.mark.parametrize(("identity", "claimed", "accepted"), IDENTITIES)
def test_name_in_the_signature_is_what_the_policy_wants(
    identity: dict[str, str] | None, claimed: str, *, accepted: bool
) -> None:
    requirement = by_key() if identity is None else by_key(signedIdentity=identity)
    signed = classic(classic_layer(payload(name=claimed), KEY))
    if accepted:
        judge(policy_of(requirement), signed)
    else:
        assert refusal(policy_of(requirement), signed) == "signature.identity"


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
SIGNATURE = fake.sign(KEY, payload())

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
    "an entry about another signature": (
        with_annotation(LOGGED, OTHER_LOGGED[1]["dev.sigstore.cosign/bundle"]),
        "signature.log_entry",
    ),
    "an entry about another signer": (
        with_annotation(
            LOGGED,
            LOG.annotation(
                fake.hashedrekord(payload(), fake.sign(KEY, payload()), fake.public_pem(STRANGER))
            ),
        ),
        "signature.log_entry",
    ),
    "an entry about no signer": (
        with_annotation(LOGGED, LOG.annotation(fake.hashedrekord(payload(), SIGNATURE, b"x"))),
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


SERVER = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
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


def test_blob_that_its_manifest_does_not_name_is_refused() -> None:
    swapped = replace(GOOD, blobs=(payload(OTHER.digest),))
    assert refusal(policy_of(by_key()), swapped).startswith("pull.blob_")
    assert refusal(policy_of(by_key()), replace(GOOD, blobs=())) == "signature.manifest.count"


def test_requirements_without_a_signature() -> None:
    assert judge(policy_of({"type": "insecureAcceptAnything"})).reasons == (
        "the policy accepts anything",
    )
    assert refusal(policy_of({"type": "reject"}), GOOD) == "policy.reject"
    assert refusal(policy_of(), GOOD) == "policy.reject"
    gpg = {"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA"}
    assert refusal(policy_of(gpg), GOOD) == "policy.signed_by"
    # Only where it applies: the document may serve podman too.
    judge(policy_of(by_key(), scopes={"other.example": [gpg]}), GOOD)


def test_policy_is_looked_up_for_the_owners_reference_whatever_the_signature_says() -> None:
    accept = [{"type": "insecureAcceptAnything"}]
    policy = policy_of(by_key(), scopes={"mirror.example": accept, "registry.example": accept})
    assert refusal(policy, classic()) == "signature.none"
    judge(policy, classic(), reference=f"registry.example/other@{IMAGE.digest}")


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        (by_key(rsa.generate_private_key(65537, 1024)), "policy.key"),  # noqa: S505
        (by_key(ec.generate_private_key(ec.SECP521R1())), "policy.key"),
        ({**by_key(), "keyData": b64(b"no key")}, "policy.key"),
        (by_key(rekorPublicKeyData=b64(fake.public_pem(KEYS["RSA"]))), "policy.rekor_key"),
        (by_fulcio(caData=b64(b"no roots")), "policy.fulcio"),
    ],
)
def test_key_that_may_not_sign_refuses_the_policy(
    requirement: dict[str, object], reason: str
) -> None:
    assert refusal(policy_of(requirement), GOOD) == reason
