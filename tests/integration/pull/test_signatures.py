"""Signed images from a real registry, by cosign and by skopeo."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.errors import CcinitError
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    AttachedManifest,
    FoundSignatures,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.values import replace
from tests.fakes.images import signatures as fake
from tests.integration.pull.real_registry import (
    Authority,
    Registry,
    running_registry,
)
from tests.integration.pull.signature_cases import (
    KEY,
    certified,
    fulcio_requirement,
)
from tests.integration.pull.signers import (
    Client,
    KeyPair,
    cosign,
    cosign_sign_blob,
    cosign_verifies_blob,
    image_of,
    make_key_pair,
    policy_json,
    skopeo_accepts,
    skopeo_sign,
    verdict,
)

DIGEST_ONLY = {"type": "matchDigest"}
REPOSITORY = {"type": "matchRepository"}


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


def by_key(keys: KeyPair, **more: object) -> dict[str, object]:
    data = base64.b64encode(keys.public.read_bytes()).decode()
    return {"type": "sigstoreSigned", "keyData": data, **more}


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
    for kind, folder, reason, strangers in (
        ("https://sigstore.dev/cosign/sign/v1", "signature", None, "signature.key"),
        ("https://slsa.dev/provenance/v1", "provenance", "signature.none", "signature.none"),
    ):
        reference = Client(registry, f"cosign/{folder}").push(image_of(folder))
        cosign(
            registry,
            keys,
            *("attest", "--new-bundle-format", "--type", kind, "--predicate", predicate, reference),
        )
        policy = policy_json(by_key(keys, signedIdentity=DIGEST_ONLY))
        assert verdict(registry, reference, policy, tmp_path / folder) == reason
        strange = policy_json(by_key(stranger, signedIdentity=DIGEST_ONLY))
        assert verdict(registry, reference, strange, tmp_path / f"{folder}-2") == strangers


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
