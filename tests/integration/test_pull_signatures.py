"""Signed images from a real registry: by cosign, by skopeo, and judged by skopeo as well.

Every case that is not real (no service of Sigstore's is here) comes from `tests.fakes.signatures`,
and skopeo, which shares no code with the guest, has to say the same about it.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.agent.children import Children
from ccinit.agent.roles import Role
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.messages import (
    AcceptedImage,
    AttachedManifest,
    FoundSignatures,
    SignaturePolicy,
    SignatureRequest,
)
from tests.fakes import signatures as fake
from tests.fakes.registry import FakeImage, make_image
from tests.fakes.tars import Entry, make_tar
from tests.integration.pull_fixture import pulled
from tests.integration.registry_fixture import (
    Authority,
    Registry,
    make_authority,
    running_registry,
)
from tests.integration.signing_fixture import (
    Client,
    KeyPair,
    cosign,
    cosign_sign_blob,
    cosign_verifies_blob,
    make_key_pair,
    policy_json,
    skopeo_accepts,
    skopeo_sign,
)
from tests.unit.ccinit.formats.image_policy_cases import REFUSED

DIGEST_ONLY = {"type": "matchDigest"}
REPOSITORY = {"type": "matchRepository"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def registry(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), authority) as registry:
        yield registry


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("keys") / "pair")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("stranger") / "pair")


def image_of(name: str) -> FakeImage:
    return make_image([make_tar(Entry("etc/motd", name.encode()))])


def by_key(keys: KeyPair, **more: object) -> dict[str, object]:
    data = base64.b64encode(keys.public.read_bytes()).decode()
    return {"type": "sigstoreSigned", "keyData": data, **more}


def verdict(registry: Registry, reference: str, policy: bytes, directory: Path) -> str | None:
    """Pull as the guest does; return the reason of a refusal."""
    document = SignaturePolicy(document=policy, keys=())
    try:
        with pulled(reference, registry.authority.ca_pem, directory, policy=document):
            return None
    except CcinitError as error:
        assert list(directory.iterdir()) == []
        return error.reason


def test_image_signed_by_cosign_is_pulled(
    registry: Registry, keys: KeyPair, stranger: KeyPair, tmp_path: Path
) -> None:
    reference = Client(registry, "cosign/classic").push(image_of("classic"))
    unsigned = verdict(registry, reference, policy_json(by_key(keys)), tmp_path / "unsigned")
    assert unsigned == "signature.none"
    cosign(registry, keys, "sign", reference)
    policy = policy_json(by_key(keys, signedIdentity=REPOSITORY))
    assert verdict(registry, reference, policy, tmp_path / "taken") is None
    # Its signature names the repository and no tag; the default wants more, as skopeo's does.
    default = policy_json(by_key(keys))
    assert verdict(registry, reference, default, tmp_path / "default") == "signature.identity"
    assert skopeo_accepts(registry, reference, policy, tmp_path / "skopeo") is None
    assert skopeo_accepts(registry, reference, default, tmp_path / "skopeo-default") is not None
    strange = policy_json(by_key(stranger, signedIdentity=REPOSITORY))
    assert verdict(registry, reference, strange, tmp_path / "strange") == "signature.key"


def test_signature_that_cosign_keeps_as_a_referrer_is_found(
    registry: Registry, keys: KeyPair, tmp_path: Path
) -> None:
    reference = Client(registry, "cosign/referrer").push(image_of("referrer"))
    cosign(
        registry,
        keys,
        "sign",
        "--registry-referrers-mode=oci-1-1",
        reference,
        environment={"COSIGN_EXPERIMENTAL": "1"},
    )
    policy = policy_json(by_key(keys, signedIdentity=REPOSITORY))
    assert verdict(registry, reference, policy, tmp_path / "taken") is None


def test_bundle_made_by_cosign_is_a_signature_if_it_says_so(
    registry: Registry, keys: KeyPair, stranger: KeyPair, tmp_path: Path
) -> None:
    predicate = tmp_path / "predicate" / "predicate.json"
    predicate.parent.mkdir()
    predicate.write_text("{}")
    for kind, reason in (
        ("https://sigstore.dev/cosign/sign/v1", None),
        ("https://slsa.dev/provenance/v1", "signature.statement.predicate"),
    ):
        folder = "signature" if reason is None else "provenance"
        reference = Client(registry, f"cosign/{folder}").push(image_of(folder))
        cosign(
            registry,
            keys,
            *("attest", "--new-bundle-format", "--type", kind, "--predicate", predicate, reference),
        )
        policy = policy_json(by_key(keys, signedIdentity=DIGEST_ONLY))
        assert verdict(registry, reference, policy, tmp_path / folder) == reason
        strange = policy_json(by_key(stranger, signedIdentity=DIGEST_ONLY))
        assert verdict(registry, reference, strange, tmp_path / f"{folder}-2") == "signature.key"


def test_bundle_over_the_manifest_itself_made_by_cosign_is_a_signature(
    registry: Registry, keys: KeyPair, stranger: KeyPair, tmp_path: Path
) -> None:
    client, image = Client(registry, "cosign/blob"), image_of("blob")
    reference = client.push(image)
    (tmp_path / "work").mkdir()
    document = tmp_path / "work" / "manifest.json"
    document.write_bytes(image.manifest)
    artifact = fake.bundle_artifact(image.manifest, cosign_sign_blob(keys, document))
    client.attach("artifact", artifact)
    client.manifest(
        fake.referrers_tag(image.digest),
        fake.referrers(artifact),
        "application/vnd.oci.image.index.v1+json",
    )
    policy = policy_json(by_key(keys, signedIdentity=DIGEST_ONLY))
    assert verdict(registry, reference, policy, tmp_path / "taken") is None
    strange = policy_json(by_key(stranger, signedIdentity=DIGEST_ONLY))
    assert verdict(registry, reference, strange, tmp_path / "strange") == "signature.key"
    # And cosign verifies what the tests' own encoder makes.
    (tmp_path / "work" / "key.pub").write_bytes(fake.public_pem(KEY))
    bundle = tmp_path / "work" / "ours.bundle"
    bundle.write_bytes(fake.message_bundle(image.manifest, KEY))
    assert cosign_verifies_blob(tmp_path / "work" / "key.pub", document, bundle)
    assert not cosign_verifies_blob(keys.public, document, bundle)


def test_image_signed_by_skopeo_is_pulled(
    registry: Registry, keys: KeyPair, tmp_path: Path
) -> None:
    image = image_of("skopeo")
    source = Client(registry, "skopeo/source").push(image)
    target = f"{registry.host}/skopeo/signed"
    skopeo_sign(registry, source, f"{target}:v1", keys, tmp_path / "sign")
    reference = f"{target}@{image.digest}"
    assert verdict(registry, reference, policy_json(by_key(keys)), tmp_path / "taken") is None
    assert verdict(registry, source, policy_json(by_key(keys)), tmp_path / "source") == (
        "signature.none"
    )


# Judged twice: by the guest's code, and by skopeo's.

Layer = tuple[bytes, dict[str, str]]

KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
LOG, STRANGE_LOG = fake.Log(), fake.Log()
FULCIO, STRANGE_FULCIO = fake.Authority(), fake.Authority()
CHAIN = (FULCIO.intermediate, FULCIO.root)


def key_requirement(**more: object) -> dict[str, object]:
    return {"type": "sigstoreSigned", "keyData": fake.b64(fake.public_pem(KEY)), **more}


def named(kind: str, **more: object) -> dict[str, object]:
    return key_requirement(signedIdentity={"type": kind, **more})


def fulcio_requirement(**more: object) -> dict[str, object]:
    fulcio = {
        "caData": fake.b64(fake.pem(FULCIO.root).encode()),
        "oidcIssuer": fake.ISSUER,
        "subjectEmail": fake.SUBJECT,
        **more,
    }
    return {"type": "sigstoreSigned", "fulcio": fulcio, **LOGGED}


LOGGED = {"rekorPublicKeyData": fake.b64(fake.public_pem(LOG.key))}
PLAIN = key_requirement()


def signature(name: str, digest: str, **more: object) -> Layer:
    return fake.classic_layer(fake.payload_of(digest, name), KEY, **more)  # type: ignore[arg-type]


def certified(name: str, digest: str, **more: object) -> Layer:
    given = {"certificate": FULCIO.issue(KEY), "chain": CHAIN, "log": LOG, **more}
    return signature(name, digest, **given)


def moved(layer: Layer, other: Layer) -> Layer:
    """A signature with another's log entry."""
    key = "dev.sigstore.cosign/bundle"
    return layer[0], {**layer[1], key: other[1][key]}


OTHER_DIGEST = "sha256:" + "5" * 64

CASES: dict[str, tuple[Callable[[str, str], Sequence[Layer]], dict[str, object], str | None]] = {
    "none": (lambda _name, _digest: (), PLAIN, "signature.none"),
    "by tag": (lambda n, d: (signature(f"{n}:v1", d),), PLAIN, None),
    "by name": (lambda n, d: (signature(n, d),), PLAIN, "signature.identity"),
    "by digest": (lambda n, d: (signature(f"{n}@{d}", d),), PLAIN, None),
    "another repository": (lambda n, d: (signature(f"{n}x:v1", d),), PLAIN, "signature.identity"),
    "another image": (lambda n, _d: (signature(n, OTHER_DIGEST),), PLAIN, "signature.digest"),
    "another key": (
        lambda n, d: (fake.classic_layer(fake.payload_of(d, n), STRANGER),),
        PLAIN,
        "signature.key",
    ),
    "one good of three": (
        lambda n, d: (
            fake.classic_layer(b"no payload", KEY),
            fake.classic_layer(fake.payload_of(d, n), STRANGER),
            signature(f"{n}:v1", d),
        ),
        PLAIN,
        None,
    ),
    "member too much": (
        lambda n, d: (fake.classic_layer(fake.payload_of(d, n, more=1), KEY),),
        PLAIN,
        "signature.payload.members",
    ),
    "another type": (
        lambda n, d: (fake.classic_layer(fake.payload_of(d, n, type="x"), KEY),),
        PLAIN,
        "signature.payload.type",
    ),
    "exact name of a digest": (
        lambda n, d: (signature(f"{n}@{d}", d),),
        named("matchExact"),
        None,
    ),
    "same repository": (
        lambda n, d: (signature(n, d),),
        named("matchRepository"),
        None,
    ),
    "this reference": (
        lambda _n, d: (signature("dev.example/a:1", d),),
        named("exactReference", dockerReference="dev.example/a:1"),
        None,
    ),
    "not this reference": (
        lambda _n, d: (signature("dev.example/a:2", d),),
        named("exactReference", dockerReference="dev.example/a:1"),
        "signature.identity",
    ),
    "this repository": (
        lambda _n, d: (signature("dev.example/a:2", d),),
        named("exactRepository", dockerRepository="dev.example/a"),
        None,
    ),
    "short name": (
        lambda _n, d: (signature("docker.io/library/busybox", d),),
        named("exactRepository", dockerRepository="busybox"),
        None,
    ),
    "recorded": (
        lambda n, d: (signature(f"{n}:v1", d, log=LOG),),
        key_requirement(**LOGGED),
        None,
    ),
    "not recorded": (
        lambda n, d: (signature(f"{n}:v1", d),),
        key_requirement(**LOGGED),
        "signature.log",
    ),
    "recorded by another": (
        lambda n, d: (signature(f"{n}:v1", d, log=STRANGE_LOG),),
        key_requirement(**LOGGED),
        "signature.log",
    ),
    "record of another signature": (
        lambda n, d: (moved(signature(f"{n}:v1", d), signature(n, OTHER_DIGEST, log=LOG)),),
        key_requirement(**LOGGED),
        "signature.log_entry",
    ),
    "certificate": (lambda n, d: (certified(f"{n}:v1", d),), fulcio_requirement(), None),
    "certificate without a log": (
        lambda n, d: (certified(f"{n}:v1", d, log=None),),
        fulcio_requirement(),
        "signature.log",
    ),
    "certificate after its time": (
        lambda n, d: (certified(f"{n}:v1", d, log=replace(LOG, time=fake.NOW + 3600)),),
        fulcio_requirement(),
        "signature.certificate",
    ),
    "certificate of another root": (
        lambda n, d: (
            certified(
                f"{n}:v1",
                d,
                certificate=STRANGE_FULCIO.issue(KEY),
                chain=(STRANGE_FULCIO.intermediate, STRANGE_FULCIO.root),
            ),
        ),
        fulcio_requirement(),
        "signature.certificate",
    ),
    "certificate for somebody else": (
        lambda n, d: (
            certified(f"{n}:v1", d, certificate=FULCIO.issue(KEY, subject="x@y.example")),
        ),
        fulcio_requirement(),
        "signature.subject",
    ),
    "certificate from elsewhere": (
        lambda n, d: (certified(f"{n}:v1", d),),
        fulcio_requirement(oidcIssuer="https://other.example"),
        "signature.issuer",
    ),
    "certificate of another key": (
        lambda n, d: (certified(f"{n}:v1", d, certificate=FULCIO.issue(STRANGER)),),
        fulcio_requirement(),
        "signature.key",
    ),
    "certificate instead of a key": (
        lambda n, d: (certified(f"{n}:v1", d, certificate=FULCIO.issue(STRANGER)),),
        key_requirement(),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_skopeo_says_the_same_of_a_signature(registry: Registry, tmp_path: Path, case: str) -> None:
    layers, requirement, reason = CASES[case]
    client = Client(registry, "case/" + case.replace(" ", "-"))
    image = image_of(case)
    reference = client.push(image)
    client.attach(
        fake.signature_tag(image.digest), fake.classic(*layers(client.name, image.digest))
    )
    policy = policy_json(requirement)
    assert verdict(registry, reference, policy, tmp_path / "ours") == reason
    complaint = skopeo_accepts(registry, reference, policy, tmp_path / "skopeo")
    assert (complaint is None) == (reason is None), complaint


def test_remapped_name_is_what_skopeo_takes_too(registry: Registry, tmp_path: Path) -> None:
    client = Client(registry, "remap/app")
    image = image_of("remap")
    reference = client.push(image)
    layer = signature("dev.example/remap/app:v1", image.digest)
    client.attach(fake.signature_tag(image.digest), fake.classic(layer))
    for number, (prefix, reason) in enumerate(
        ((registry.host, None), (f"{registry.host}/re", "signature.identity"))
    ):
        signed_prefix = "dev.example" if reason is None else "dev.example/re"
        remap = named("remapIdentity", prefix=prefix, signedPrefix=signed_prefix)
        policy = policy_json(remap)
        assert verdict(registry, reference, policy, tmp_path / f"ours-{number}") == reason
        complaint = skopeo_accepts(registry, reference, policy, tmp_path / f"skopeo-{number}")
        assert (complaint is None) == (reason is None), complaint


@pytest.fixture(scope="module")
def unsigned(registry: Registry) -> str:
    return Client(registry, "policy/app").push(image_of("policy"))


@pytest.mark.parametrize("name", REFUSED)
def test_skopeo_refuses_the_same_policies(
    registry: Registry, unsigned: str, tmp_path: Path, name: str
) -> None:
    document, reason = REFUSED[name]
    assert verdict(registry, unsigned, document, tmp_path / "ours") == reason
    complaint = skopeo_accepts(registry, unsigned, document, tmp_path / "skopeo")
    assert complaint is not None
    assert "invalid policy" in complaint


SCOPES = {
    "{name}@{digest}": True,
    "{name}": True,
    "{host}/scopes": True,
    "{host}": True,
    "{name}:v1": False,
    "{host}/scope": False,
    "{name}/": False,
    "localhost": False,
    "*.localhost": False,
}


@pytest.mark.parametrize("scope", SCOPES)
def test_skopeo_applies_the_same_scopes(registry: Registry, tmp_path: Path, scope: str) -> None:
    client = Client(registry, "scopes/app")
    image = image_of("scopes")
    reference = client.push(image)
    name = scope.format(name=client.name, host=registry.host, digest=image.digest)
    docker = {name: [{"type": "insecureAcceptAnything"}]}
    value = {"default": [{"type": "reject"}], "transports": {"docker": docker}}
    policy = json.dumps(value).encode()
    reason = None if SCOPES[scope] else "policy.reject"
    assert verdict(registry, reference, policy, tmp_path / "ours") == reason
    complaint = skopeo_accepts(registry, reference, policy, tmp_path / "skopeo")
    assert (complaint is None) == SCOPES[scope], complaint


def test_child_judges_with_the_rights_of_its_role_only() -> None:
    """Its own user, no network, no files, and the system calls of the table."""
    image = image_of("child")
    name = "registry.example/team/app"
    layer = certified(f"{name}:v1", image.digest)
    attached = fake.classic(layer)
    found = FoundSignatures(
        documents=(image.manifest,),
        manifests=(AttachedManifest(manifest=attached.manifest, blobs=attached.blobs),),
    )
    request = SignatureRequest(
        reference=f"{name}@{image.digest}",
        policy=SignaturePolicy(document=policy_json(fulcio_requirement()), keys=()),
        found=found,
    )
    children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": str(Path.cwd())})

    def judge(one: SignatureRequest) -> AcceptedImage:
        return EventLoop().run(children.run(Role.SIGNATURE, one, AcceptedImage, seconds=60))

    assert judge(request).reasons == (f"signed by {fake.SUBJECT}",)
    with pytest.raises(CcinitError) as refused:
        judge(replace(request, reference=f"registry.example/other@{image.digest}"))
    assert refused.value.reason == "signature.identity"
