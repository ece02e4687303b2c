"""Secrets of a launch, made of what is registered; a guest takes them as they are."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.jobs import launch
from ccinit.agent.jobs.messages.kbs import LaunchRequest
from ccinit.agent.phases.attestation import plan_resources as guests_plan
from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.launch_secret import MAX_ENTRY_BYTES, STATEMENT, parse_launch_statement
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.formats.signature.image_policy import MAX_POLICY_KEYS
from ccinit.kernel.efi_secret import open_secrets
from guest_owner.cli import main
from guest_owner.commands.initdata import make_document
from guest_owner.commands.launch_secret import make_entries, plan_resources
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, FULL_POD
from tests.fakes.platforms.launch import POD, POLICY_KEY, RESOURCES, enveloped
from tests.unit.ccinit.formats.signature.image_policy_cases import KEY, naming

MANIFEST = parse_pod_manifest(FULL_POD)
DOCUMENT = make_document(CONFIG, FULL_POD)
POLICY = f"{POD}file-policy"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    state = tmp_path / "state"
    state.mkdir()
    store = Store(state)
    for uri, (kind, data) in RESOURCES.items():
        store.write_resource(parse_resource_uri(uri), enveloped(uri, kind, data))
    return store


def reason_of(document: bytes, store: Store) -> str:
    with pytest.raises(CcinitError) as caught:
        make_entries(document, store, 0)
    return caught.value.reason


@pytest.mark.parametrize("owner", [None, OwnerConfig(port=0, client_ca_pem="roots")])
def test_plan_is_the_guests_own(owner: OwnerConfig | None) -> None:
    config: Any = SimpleNamespace(owner=owner)
    wanted = guests_plan(MANIFEST, owner)
    assert plan_resources(config, MANIFEST) == {one.uri: one.kind for one in wanted}


def test_guest_takes_what_the_command_wrote(store: Store, tmp_path: Path) -> None:
    before = int(time.time())
    document = tmp_path / "initdata.toml"
    document.write_bytes(DOCUMENT)
    output = tmp_path / "secrets"
    arguments = ["launch-secret", "--state", store.root, document, "--output", output]
    assert main(list(map(str, arguments))) == 0
    with open_secrets(str(output)) as fds:
        channel: Any = SimpleNamespace(fds=fds)
        wanted = guests_plan(MANIFEST)
        reply = launch.run(LaunchRequest(wanted=wanted), channel)
    assert [str(one.uri) for one in reply.released] == [str(one.uri) for one in wanted]
    assert len(reply.policy_keys) == 1
    assert before <= reply.date <= time.time()
    said = parse_launch_statement((output / STATEMENT).read_bytes())
    assert said.initdata == sha256_digest(DOCUMENT)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in output.iterdir())
    assert main(list(map(str, arguments))) == 1


@pytest.mark.parametrize("key", [f"{POD}file-token", POLICY_KEY])
def test_key_that_the_pod_has_too_is_given_once(store: Store, key: str) -> None:
    body = enveloped(key, EnvelopeKind.FILE, KEY)
    store.write_resource(parse_resource_uri(key), body)
    put_policy(store, key, POLICY_KEY)
    assert len(make_entries(DOCUMENT, store, 0)) == len(RESOURCES) + 1


def test_policys_keys_that_the_guest_would_end_for_are_refused(store: Store) -> None:
    put_policy(store, f"{POD}volume-key-data")
    assert reason_of(DOCUMENT, store) == "policy.key_kind"
    put_policy(store, *(f"{POD}key-{number}" for number in range(MAX_POLICY_KEYS + 1)))
    assert reason_of(DOCUMENT, store) == "policy.keys"


def test_policy_that_is_none_is_named(store: Store) -> None:
    body = enveloped(POLICY, EnvelopeKind.FILE, b"{}")
    store.write_resource(parse_resource_uri(POLICY), body)
    with pytest.raises(FormatError) as refused:
        make_entries(DOCUMENT, store, 0)
    assert refused.value.reason == "policy.default"
    assert refused.value.detail.startswith(f"{POLICY}: ")


def test_policys_key_that_is_none_is_refused(store: Store) -> None:
    body = enveloped(POLICY_KEY, EnvelopeKind.FILE, b"no key")
    store.write_resource(parse_resource_uri(POLICY_KEY), body)
    with pytest.raises(FormatError) as refused:
        make_entries(DOCUMENT, store, 0)
    assert str(refused.value) == f"policy.key: {POLICY_KEY}: not a PEM public key"


def put_policy(store: Store, *keys: str) -> None:
    body = enveloped(POLICY, EnvelopeKind.FILE, naming(*keys))
    store.write_resource(parse_resource_uri(POLICY), body)


def test_what_is_not_registered_is_asked_for(store: Store) -> None:
    assert make_entries(DOCUMENT, store, 0)
    store.delete_resource(parse_resource_uri("kbs:///ccinit/demo/file-token"))
    assert reason_of(DOCUMENT, store) == "resource.absent"


def test_resource_without_its_envelope_is_refused(store: Store) -> None:
    uri = "kbs:///ccinit/demo/file-token"
    store.write_resource(parse_resource_uri(uri), b"token")
    assert reason_of(DOCUMENT, store) == "envelope.json"
    body = enveloped(uri, EnvelopeKind.IMAGE_KEY, b"token")
    store.write_resource(parse_resource_uri(uri), body)
    assert reason_of(DOCUMENT, store) == "envelope.kind"


@pytest.mark.parametrize(
    ("name", "kind", "data", "reason"),
    [
        ("log-psk", EnvelopeKind.LOG_PSK, b"p" * 31, "resource.log_psk"),
        ("image-key", EnvelopeKind.IMAGE_KEY, b"k" * 31, "enc.key"),
        ("file-token", EnvelopeKind.FILE, b"\xff", "launch_secret.unfit"),
        ("file-auth", EnvelopeKind.FILE, b"{}", "launch_secret.unfit"),
        ("file-auth", EnvelopeKind.FILE, b"{}" * (32 << 10), "launch_secret.size"),
    ],
)
def test_secret_that_ends_a_guest_is_refused(
    store: Store, name: str, kind: EnvelopeKind, data: bytes, reason: str
) -> None:
    """A store may hold it since before it was judged when it is registered."""
    pod = FULL_POD.replace('file = "/run/secrets/token"', 'env = "TOKEN"')
    assert pod != FULL_POD
    document = make_document(CONFIG, pod)
    assert make_entries(document, store, 0)
    uri = f"{POD}{name}"
    store.write_resource(parse_resource_uri(uri), enveloped(uri, kind, data))
    with pytest.raises(CcinitError, match=uri) as caught:
        make_entries(document, store, 0)
    assert caught.value.reason == reason


def test_document_that_no_launch_can_have_is_refused(store: Store) -> None:
    assert reason_of(make_document(CONFIG, FULL_POD, "sha384"), store) == "initdata.algorithm"
    without = CONFIG.replace('envelope = "required"', 'envelope = "none"')
    assert without != CONFIG
    assert reason_of(make_document(without, FULL_POD), store) == "launch_secret.envelope"
    plugin = FULL_POD.replace("kbs:///ccinit/demo/file-token", "kbs+sample:///a/b")
    assert plugin != FULL_POD
    make_document(without, plugin)
    with pytest.raises(CcinitError) as caught:
        make_document(CONFIG, plugin)
    assert caught.value.reason == "pod.secret.uri"


def test_document_with_a_rollback_counter_is_refused_as_by_the_guest(store: Store) -> None:
    pod = FULL_POD.replace('kind = "persistent"', 'kind = "persistent"\nrollback = "kbs-counter"')
    assert pod != FULL_POD
    assert reason_of(make_document(CONFIG, pod), store) == "attest.launch_only"


def test_secret_that_no_guest_reads_is_refused(store: Store) -> None:
    uri = "kbs:///ccinit/demo/file-token"
    around = len(enveloped(uri, EnvelopeKind.FILE, b""))
    for size, accepted in ((MAX_ENTRY_BYTES - around) // 4 * 3, True), (MAX_ENTRY_BYTES, False):
        store.write_resource(
            parse_resource_uri(uri), enveloped(uri, EnvelopeKind.FILE, bytes(size))
        )
        if accepted:
            assert make_entries(DOCUMENT, store, 0)
        else:
            assert reason_of(DOCUMENT, store) == "launch_secret.size"


def test_what_only_a_plugin_makes_is_in_no_plan() -> None:
    config: Any = SimpleNamespace(owner=None)
    plugin = FULL_POD.replace("kbs:///ccinit/demo/file-token", "kbs+sample:///a/b")
    with pytest.raises(CcinitError) as caught:
        plan_resources(config, parse_pod_manifest(plugin))
    assert caught.value.reason == "launch_secret.plugin"


def test_note_names_the_firmwares_limit(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "kbs:///ccinit/demo/file-token"
    body = enveloped(uri, EnvelopeKind.FILE, bytes(4096))
    document = tmp_path / "initdata.toml"
    document.write_bytes(DOCUMENT)
    arguments = ["launch-secret", "--state", str(store.root), str(document), "--output"]
    assert main([*arguments, str(tmp_path / "small")]) == 0
    assert "note:" not in capsys.readouterr().out
    store.write_resource(parse_resource_uri(uri), body)
    assert main([*arguments, str(tmp_path / "large")]) == 0
    assert "note: OVMF's own area has 3072 bytes" in capsys.readouterr().out
    assert json.loads((tmp_path / "large" / STATEMENT).read_bytes())["v"] == 1
