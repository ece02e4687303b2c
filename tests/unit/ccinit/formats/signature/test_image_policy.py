"""The policy's grammar: what containers/image refuses is refused here, too."""

import json
from collections.abc import Mapping
from typing import cast

import pytest

from ccinit.errors import FormatError
from ccinit.formats.oci.docker_reference import parse_docker_reference
from ccinit.formats.signature.image_policy import (
    AcceptAnything,
    ImagePolicy,
    Reject,
    Requirements,
    SigstoreSigned,
    parse_image_policy,
    scopes_of,
)
from ccinit.formats.signature.signed_identity import MatchRepoDigestOrExact
from tests.unit.ccinit.formats.signature.image_policy_cases import (
    KEY,
    OURS_ONLY,
    REFUSED,
    Requirement,
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
    assert [key.data for key in requirement.keys] == [KEY]


def test_resources_are_listed_once() -> None:
    uris = [f"kbs:///default/keys/{name}" for name in "abc"]
    fulcio = {"caPath": uris[2], "oidcIssuer": "i", "subjectEmail": "s"}
    document = policy(
        {"type": "reject"},
        {"type": "sigstoreSigned", "keyPaths": uris[:2], "rekorPublicKeyPath": uris[1]},
        {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyPaths": [uris[0]]},
    )
    assert [str(uri) for uri in parse_image_policy(document).resources()] == uris


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
