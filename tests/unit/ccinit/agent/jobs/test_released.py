"""What a release has to pass, from the manifest's names to the keys of its image policies."""

import pytest

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.agent.jobs.released import release_policy_keys, verify_sealed_names
from ccinit.agent.phases.attestation import plan_resources
from ccinit.errors import CcinitError, LimitExceededError, VerificationError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from ccinit.formats.signature.image_policy import MAX_POLICY_BYTES
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.kbs.sealed_secrets import KEY_URI, jwk, seal
from tests.unit.ccinit.formats.signature.image_policy_cases import naming

PLAIN = "kbs:///ccinit/demo/file-token"
POLICY, OWN, OTHER = (ResourceUri("a", "b", tag) for tag in ("policy", "own", "other"))


def body_of(uri: ResourceUri, data: bytes = b"PEM") -> Released:
    return Released(uri=uri, data=data, create=False)


class Session:
    """A pod that uses `OWN` as `kind`, with a policy that names `OWN` and `OTHER`."""

    def __init__(self, kind: EnvelopeKind = EnvelopeKind.FILE, *, is_policy: bool = True) -> None:
        self.wanted = [
            Wanted(uri=OWN, kind=kind),
            Wanted(uri=POLICY, kind=EnvelopeKind.FILE, is_policy=is_policy),
        ]
        self.released = [body_of(OWN, b"own"), body_of(POLICY, naming(str(OWN), str(OTHER)))]
        self.asked: list[Wanted] = []

    def release(self, wanted: Wanted) -> Released:
        self.asked.append(wanted)
        assert isinstance(wanted.uri, ResourceUri)
        return body_of(wanted.uri)

    def policy_keys(self) -> tuple[Released, ...]:
        return release_policy_keys(self.wanted, self.released, self.release)


def test_keys_of_a_policy_are_got_unless_the_pod_has_them() -> None:
    session = Session()
    assert session.policy_keys() == (body_of(OWN, b"own"), body_of(OTHER))
    assert session.asked == [Wanted(uri=OTHER, kind=EnvelopeKind.FILE)]
    assert Session(is_policy=False).policy_keys() == ()


def test_policy_that_is_none_ends_the_attestation() -> None:
    session = Session()
    session.released[1] = body_of(POLICY, b"{}")
    with pytest.raises(CcinitError) as refused:
        session.policy_keys()
    assert refused.value.reason == "policy.default"


def test_error_in_a_policy_says_which_one_of_the_pods_it_is() -> None:
    session = Session()
    session.wanted.append(Wanted(uri=OTHER, kind=EnvelopeKind.FILE, is_policy=True))
    session.released.append(body_of(OTHER, b" " * (MAX_POLICY_BYTES + 1)))
    with pytest.raises(LimitExceededError) as refused:
        session.policy_keys()
    assert refused.value.reason == "policy.length"
    assert refused.value.detail.startswith(f"{OTHER}: expected at most")
    assert session.asked == []


def test_key_of_another_kind_is_refused_before_any_is_got() -> None:
    """Without envelopes nothing else would tell a volume's key from a public one."""
    session = Session(EnvelopeKind.VOLUME_KEY)
    with pytest.raises(CcinitError) as refused:
        session.policy_keys()
    assert refused.value.reason == "policy.key_kind"
    assert session.asked == []


def pod(signed_by: str = "owner") -> PodManifest:
    return parse_pod_manifest(FULL_POD.replace(PLAIN, seal(signed_by=signed_by)))


def released(manifest: PodManifest) -> list[Released]:
    return [
        Released(uri=one.uri, data=jwk() if str(one.uri) == KEY_URI else b"", create=False)
        for one in plan_resources(manifest)
    ]


def test_key_of_a_sealed_secret_is_wanted_beside_what_it_names() -> None:
    plain = {str(one.uri) for one in plan_resources(parse_pod_manifest(FULL_POD))}
    wanted = plan_resources(pod())
    assert {str(one.uri) for one in wanted} == plain | {KEY_URI}
    assert [str(one.uri) for one in wanted if one.sealed] == [PLAIN]


def test_name_is_good_only_by_its_own_key() -> None:
    manifest = pod()
    verify_sealed_names(plan_resources(manifest), released(manifest))
    stranger = pod("stranger")
    with pytest.raises(VerificationError) as error:
        verify_sealed_names(plan_resources(stranger), released(stranger))
    assert error.value.reason == "sealed_secret.signature"
