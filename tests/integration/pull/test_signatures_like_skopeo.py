"""Signatures, policies and scopes, judged twice: by the guest's code, and by skopeo's.

No service of Sigstore's is here, so the signatures come from `tests.fakes.images.signatures`;
skopeo, which shares no code with the guest, has to say the same about each.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.images import signatures as fake
from tests.integration.pull.real_registry import (
    Authority,
    Registry,
    running_registry,
)
from tests.integration.pull.signature_cases import (
    CASES,
    named,
    signature,
)
from tests.integration.pull.signers import (
    Client,
    image_of,
    policy_json,
    skopeo_accepts,
    verdict,
)
from tests.unit.ccinit.formats.signature.image_policy_cases import REFUSED


@pytest.fixture(scope="module")
def registry(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), authority) as registry:
        yield registry


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
