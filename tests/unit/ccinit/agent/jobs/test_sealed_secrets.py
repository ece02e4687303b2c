"""From the manifest to the key that vouches: a pod that names a secret by a sealed one."""

import pytest

from ccinit.agent.jobs.messages.kbs import Released
from ccinit.agent.jobs.sealed_secrets import verify_names
from ccinit.agent.phases.attestation import plan_resources
from ccinit.errors import VerificationError
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.kbs.sealed_secrets import KEY_URI, jwk, seal

PLAIN = "kbs:///ccinit/demo/file-token"


def pod(signed_by: str = "owner") -> PodManifest:
    return parse_pod_manifest(FULL_POD.replace(PLAIN, seal(signed_by=signed_by)))


def released(manifest: PodManifest) -> list[Released]:
    return [
        Released(uri=one.uri, data=jwk() if str(one.uri) == KEY_URI else b"x", create=False)
        for one in plan_resources(manifest)
    ]


def test_key_of_a_sealed_secret_is_wanted_beside_what_it_names() -> None:
    plain = {str(one.uri) for one in plan_resources(parse_pod_manifest(FULL_POD))}
    wanted = plan_resources(pod())
    assert {str(one.uri) for one in wanted} == plain | {KEY_URI}
    assert [str(one.uri) for one in wanted if one.sealed] == [PLAIN]


def test_name_is_good_only_by_its_own_key() -> None:
    manifest = pod()
    verify_names(plan_resources(manifest), released(manifest))
    stranger = pod("stranger")
    with pytest.raises(VerificationError) as error:
        verify_names(plan_resources(stranger), released(stranger))
    assert error.value.reason == "sealed_secret.signature"
