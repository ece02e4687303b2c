"""The policy's grammar: what containers/image refuses is refused here, too."""

import json
from collections.abc import Mapping
from typing import cast

import pytest

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.docker_reference import parse_docker_reference
from ccinit.formats.signature.image_policy import (
    MAX_POLICY_KEYS,
    AcceptAnything,
    ImagePolicy,
    Reject,
    Requirements,
    SigstoreSigned,
    name_policy_keys,
    parse_image_policy,
    scopes_of,
)
from ccinit.formats.signature.signed_identity import MatchRepoDigestOrExact
from tests.unit.ccinit.formats.signature.image_policy_cases import (
    KEY,
    OURS_ONLY,
    REFUSED,
    Requirement,
    naming,
    policy,
    signed,
)

HEX = "0123456789abcdef" * 4


def parse(requirement: Requirement) -> Requirements:
    return parse_image_policy(policy(requirement)).default


def refusal(document: bytes) -> str:
    with pytest.raises(FormatError) as refused:
        parse_image_policy(document)
    return refused.value.reason


@pytest.mark.parametrize("name", REFUSED)
def test_document_that_containers_image_refuses_is_refused(name: str) -> None:
    document, reason = REFUSED[name]
    assert refusal(document) == reason
    parse_image_policy(policy(signed()))


@pytest.mark.parametrize("name", OURS_ONLY)
def test_document_that_the_guest_cannot_honour_is_refused(name: str) -> None:
    document, reason = OURS_ONLY[name]
    assert refusal(document) == reason


def test_identity_that_is_not_given_is_the_strict_default() -> None:
    (requirement,) = parse(signed())
    assert isinstance(requirement, SigstoreSigned)
    assert requirement.identity == MatchRepoDigestOrExact()


def test_key_data_is_base64() -> None:
    (requirement,) = parse(signed())
    assert isinstance(requirement, SigstoreSigned)
    assert requirement.keys == (KEY,)


def test_resources_are_listed_once() -> None:
    uris = [f"kbs:///default/keys/{name}" for name in "abc"]
    fulcio = {"caPath": uris[2], "oidcIssuer": "i", "subjectEmail": "s"}
    document = policy(
        {"type": "reject"},
        {"type": "sigstoreSigned", "keyPaths": uris[:2], "rekorPublicKeyPath": uris[1]},
        {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyPaths": [uris[0]]},
    )
    assert [str(uri) for uri in parse_image_policy(document).resources()] == uris


def parse_naming(*uris: ResourceUri) -> ImagePolicy:
    return parse_image_policy(naming(*map(str, uris)))


URIS = tuple(ResourceUri("default", "keys", str(number)) for number in range(MAX_POLICY_KEYS + 1))


def test_keys_of_several_policies_are_named_once() -> None:
    policies = parse_naming(*URIS[:2]), parse_naming(*URIS[1:3])
    assert name_policy_keys(policies, ()) == URIS[:3]


def test_more_keys_than_anybody_needs_are_refused() -> None:
    policies = [parse_naming(*URIS[start : start + 11]) for start in range(0, len(URIS), 11)]
    last = parse_naming(*URIS[22:MAX_POLICY_KEYS])
    assert name_policy_keys((*policies[:2], last), ()) == URIS[:MAX_POLICY_KEYS]
    with pytest.raises(CcinitError) as refused:
        name_policy_keys(policies, ())
    assert refused.value.reason == "policy.keys"


@pytest.mark.parametrize("kind", EnvelopeKind)
def test_key_may_be_a_file_of_the_pods_and_nothing_else(kind: EnvelopeKind) -> None:
    named = [parse_naming(URIS[0], URIS[1])]
    assert name_policy_keys(named, [(URIS[2], kind)]) == URIS[:2]
    if kind is EnvelopeKind.FILE:
        assert name_policy_keys(named, [(URIS[1], kind)]) == URIS[:2]
        return
    with pytest.raises(CcinitError) as refused:
        name_policy_keys(named, [(URIS[1], kind)])
    assert refused.value.reason == "policy.key_kind"
    assert refused.value.detail.endswith(f"as {kind}")


def test_requirements_of_other_transports_are_read_and_not_used() -> None:
    value = {
        "default": [{"type": "reject"}],
        "transports": {
            "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]},
            "future": {"x": [{"type": "insecureAcceptAnything"}]},
        },
    }
    parsed = parse_image_policy(json.dumps(value).encode())
    reference = parse_docker_reference("r.example/a:1", "x")
    assert parsed.requirements_for(reference) == (Reject(),)
    cast("dict[str, object]", value["transports"])["docker-daemon"] = {"": []}
    assert refusal(json.dumps(value).encode()) == "policy.requirements"


REFERENCE = parse_docker_reference(f"a.b.example:5000/ns/app@sha256:{HEX}", "x")


def test_scopes_go_from_the_image_to_its_domain() -> None:
    assert scopes_of(REFERENCE) == (
        f"a.b.example:5000/ns/app@sha256:{HEX}",
        "a.b.example:5000/ns/app",
        "a.b.example:5000/ns",
        "a.b.example:5000",
        "*.b.example",
        "*.example",
    )
    assert scopes_of(parse_docker_reference("busybox", "x"))[-3:] == (
        "docker.io/library",
        "docker.io",
        "*.io",
    )


def scoped(scopes: Mapping[str, str]) -> ImagePolicy:
    docker = {scope: [{"type": kind}] for scope, kind in scopes.items()}
    value = {"default": [{"type": "reject"}], "transports": {"docker": docker}}
    return parse_image_policy(json.dumps(value).encode())


@pytest.mark.parametrize(
    "scope",
    [
        f"a.b.example:5000/ns/app@sha256:{HEX}",
        "a.b.example:5000/ns/app",
        "a.b.example:5000/ns",
        "a.b.example:5000",
        "*.b.example",
        "*.example",
        "",
    ],
)
def test_scope_that_names_the_image_applies(scope: str) -> None:
    found = scoped({scope: "insecureAcceptAnything"}).requirements_for(REFERENCE)
    assert found == (AcceptAnything(),)


@pytest.mark.parametrize(
    "scope",
    [
        "a.b.example",
        "a.b.example:5000/n",
        "a.b.example:5000/ns/",
        "a.b.example:5000/ns/ap",
        "a.b.example:5000/ns/app:v1",
        "*.a.b.example",
        "*.b.example:5000",
        "*",
        "A.B.EXAMPLE:5000",
    ],
)
def test_scope_that_only_looks_alike_does_not_apply(scope: str) -> None:
    assert scoped({scope: "insecureAcceptAnything"}).requirements_for(REFERENCE) == (Reject(),)


def test_most_specific_scope_wins_outright() -> None:
    scopes = {"a.b.example:5000/ns": "reject", "a.b.example:5000": "insecureAcceptAnything"}
    assert scoped(scopes).requirements_for(REFERENCE) == (Reject(),)
    assert scoped({**scopes, "": "reject"}).requirements_for(REFERENCE) == (Reject(),)
