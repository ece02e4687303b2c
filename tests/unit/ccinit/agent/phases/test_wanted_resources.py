"""What ATTEST asks for."""

from types import SimpleNamespace
from typing import Any

from ccinit.agent.jobs.messages.kbs import Wanted
from ccinit.agent.phases.attestation import plan_resources
from ccinit.agent.phases.kbs_session import want
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.tls_identity import ExpectedIdentity
from ccinit.formats.pod.manifest import parse_pod_manifest
from tests.fakes.documents.guest import FULL_POD


def test_everything_that_the_manifest_names_is_wanted_and_policies_are_marked() -> None:
    pod = parse_pod_manifest(FULL_POD)
    wanted = plan_resources(pod)
    assert [str(one.uri).rpartition("/")[2] for one in wanted] == [
        "log-psk",
        "volume-key-data",
        "file-auth",
        "file-policy",
        "image-key",
        "file-token",
    ]
    owner = OwnerConfig(port=8444, client_ca_pem="roots")
    with_identity = plan_resources(pod, owner)
    (identity,) = set(with_identity) - set(wanted)
    assert [one for one in with_identity if one != identity] == list(wanted)
    assert identity == Wanted(
        uri=parse_resource_uri("kbs:///ccinit/demo/tls-identity"),
        kind=EnvelopeKind.TLS_IDENTITY,
        identity=ExpectedIdentity(pod="demo", roots_pem="roots"),
    )
    assert all(one.identity is None for one in wanted)
    assert [str(one.uri).rpartition("/")[2] for one in wanted if one.is_policy] == ["file-policy"]
    assert wanted[3].kind is EnvelopeKind.FILE


def test_secret_is_wanted_with_what_was_sealed_into_it_and_not_into_another() -> None:
    uri, other = (parse_resource_uri(f"kbs:///ccinit/demo/file-{name}") for name in ("a", "b"))
    sealed: Any = object()
    secrets = [
        SimpleNamespace(uri=uri, sealed=sealed),
        SimpleNamespace(uri=uri, sealed=None),
        SimpleNamespace(uri=other, sealed=object()),
    ]
    manifest: Any = SimpleNamespace(images=(), secrets=secrets)
    (wanted,) = want(manifest, {uri: EnvelopeKind.FILE})
    assert list(wanted.sealed) == [sealed]
