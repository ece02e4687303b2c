"""What a release has to pass, from the manifest's names to the keys of its image policies."""

import pytest

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.agent.jobs.released import MAX_POLICY_KEYS, verify_released
from ccinit.agent.phases.attestation import plan_resources
from ccinit.errors import CcinitError, VerificationError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.kbs.sealed_secrets import KEY_URI, jwk, seal
from tests.unit.ccinit.formats.signature.image_policy_cases import policy

URIS = [f"kbs:///default/keys/{number}" for number in range(MAX_POLICY_KEYS + 1)]
PLAIN = "kbs:///ccinit/demo/file-token"


def ask(*bodies: bytes, is_policy: bool = True) -> list[str]:
    wanted = [
        Wanted(uri=ResourceUri("a", "b", str(n)), kind=EnvelopeKind.FILE, is_policy=is_policy)
        for n in range(len(bodies))
    ]
    uri = ResourceUri("a", "b", "c")
    released = [Released(uri=uri, data=body, create=False) for body in bodies]
    return [str(one.uri) for one in verify_released(wanted, released)]


def naming(*uris: str) -> bytes:
    requirements: list[dict[str, object]] = [
        {"type": "sigstoreSigned", "keyPath": uri} for uri in uris
    ]
    return policy(*requirements)


def test_keys_that_policies_name_are_wanted_once() -> None:
    assert ask(naming(URIS[0], URIS[1]), naming(URIS[1])) == URIS[:2]
    assert ask(naming(URIS[0]), is_policy=False) == []


def test_policy_that_is_none_ends_the_attestation() -> None:
    with pytest.raises(CcinitError) as refused:
        ask(b"{}")
    assert refused.value.reason == "policy.default"


def test_more_keys_than_anybody_needs_are_refused() -> None:
    bodies = [naming(*URIS[start : start + 11]) for start in range(0, len(URIS), 11)]
    with pytest.raises(CcinitError) as refused:
        ask(*bodies)
    assert refused.value.reason == "policy.keys"
    assert len(ask(*bodies[:2])) == 22


def pod(signed_by: str = "owner") -> PodManifest:
    return parse_pod_manifest(FULL_POD.replace(PLAIN, seal(signed_by=signed_by)))


def released(manifest: PodManifest) -> list[Released]:
    return [
        Released(
            uri=one.uri, data=jwk() if str(one.uri) == KEY_URI else naming(URIS[0]), create=False
        )
        for one in plan_resources(manifest)
    ]


def test_key_of_a_sealed_secret_is_wanted_beside_what_it_names() -> None:
    plain = {str(one.uri) for one in plan_resources(parse_pod_manifest(FULL_POD))}
    wanted = plan_resources(pod())
    assert {str(one.uri) for one in wanted} == plain | {KEY_URI}
    assert [str(one.uri) for one in wanted if one.sealed] == [PLAIN]


def test_name_is_good_only_by_its_own_key() -> None:
    manifest = pod()
    verify_released(plan_resources(manifest), released(manifest))
    stranger = pod("stranger")
    with pytest.raises(VerificationError) as error:
        verify_released(plan_resources(stranger), released(stranger))
    assert error.value.reason == "sealed_secret.signature"
