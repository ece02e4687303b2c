from ccinit.agent.attestation import plan_resources
from ccinit.formats.envelope import EnvelopeKind
from ccinit.formats.pod_manifest import parse_pod_manifest
from tests.unit.ccinit.formats.test_pod_manifest import POD


def test_everything_that_the_manifest_names_is_wanted_and_policies_are_marked() -> None:
    pod = parse_pod_manifest(POD)
    wanted = plan_resources(pod)
    assert [str(one.uri).rpartition("/")[2] for one in wanted] == [
        "log-psk",
        "volume-key-data",
        "file-auth",
        "file-policy",
        "image-key",
        "file-token",
    ]
    (identity,) = set(plan_resources(pod, with_identity=True)) - set(wanted)
    assert (str(identity.uri), identity.kind) == (
        "kbs:///ccinit/demo/tls-identity",
        EnvelopeKind.TLS_IDENTITY,
    )
    assert [one.uri.tag for one in wanted if one.is_policy] == ["file-policy"]
    assert wanted[3].kind is EnvelopeKind.FILE
