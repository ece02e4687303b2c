"""Which signatures an owner's policy accepts: each refusal with the reason of the check it meets.

The signatures come from an encoder of their own (`tests.fakes.images.signatures`). R61 of the
threats is the table's subject: missing, for another digest, for another name, by a certificate that
was not yet or no longer good, under an empty policy, malformed.
"""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.pull.messages.fetch import PolicyKey
from tests.fakes.images import signatures as fake
from tests.fakes.images.registry import digest_of, make_index
from tests.fakes.images.signatures import Attachment, b64, classic, classic_layer
from tests.unit.ccinit.pull.signature.signature_request import (
    GOOD,
    IMAGE,
    KEY,
    KEYS,
    NAME,
    OTHER,
    STRANGER,
    by_fulcio,
    by_key,
    judge,
    payload,
    policy_of,
    refusal,
)


@pytest.mark.parametrize("kind", KEYS)
def test_signature_by_a_key_of_the_policy_is_accepted(kind: str) -> None:
    key = KEYS[kind]
    _, annotations = layer = classic_layer(payload(), key)
    signed = classic(layer)
    accepted = judge(policy_of(by_key(key)), signed)
    assert accepted.documents == (parse_digest(IMAGE.digest),)
    assert accepted.reasons == ("signed by key 1 of the policy",)
    assert refusal(policy_of(by_key(STRANGER)), signed) == "signature.key"
    changed = classic((payload(name=f"{NAME}:v2"), annotations))
    assert refusal(policy_of(by_key(key)), changed) == "signature.key"


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
    "for what is not a name": (
        classic(classic_layer(payload(name="A B"), KEY)),
        "signature.identity",
    ),
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
