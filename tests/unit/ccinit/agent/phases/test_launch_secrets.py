"""From a judged launch's secrets to the pod's grants: in the child, and around it in PID 1."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccinit.agent.jobs import launch, measure
from ccinit.agent.jobs.messages.kbs import KbsReply, LaunchRequest
from ccinit.agent.jobs.messages.measurement import BindRequest
from ccinit.agent.phases import attestation, launch_secrets
from ccinit.agent.phases.attestation import attest, plan_resources
from ccinit.agent.phases.evidence import collect_evidence
from ccinit.agent.phases.kbs_session import request_resources
from ccinit.agent.processes.child import JobChannel
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Platform
from ccinit.boot.clock import format_utc
from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.evidence.log_key import parse_log_evidence
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, OwnerConfig
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.launch_secret import verify_log_voucher
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.kernel.efi_secret import open_secrets, wipe_secrets
from ccinit.kernel.event_loop import EventLoop
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.kbs.sealed_secrets import KEY_URI, jwk, seal
from tests.fakes.platforms.launch import (
    DATE,
    POLICY_KEY,
    PSK,
    RESOURCES,
    STATEMENT,
    Launch,
    enveloped,
    guid_of,
)
from tests.fakes.platforms.launch import (
    POD as NAMES,
)
from tests.fakes.platforms.measured_events import MeasuredEvents
from tests.unit.ccinit.formats.signature.image_policy_cases import naming

DOCUMENT = b"document"
DIGEST = hashlib.sha256(DOCUMENT).digest()
MANIFEST = parse_pod_manifest(FULL_POD)
BINDING = bytes(range(64))


def channel(fds: Mapping[str, int]) -> JobChannel:
    return cast("JobChannel", SimpleNamespace(fds=fds))


class Children:
    """A child in this process; its messages are encoded as on the way to a real one."""

    def __init__(self) -> None:
        self.roles: list[Role] = []

    async def run(
        self, role: Role, request: object, reply: type, *, seconds: float, fds: Mapping[str, int]
    ) -> object:
        assert seconds > 0
        self.roles.append(role)
        sent = wire.decode(LaunchRequest, wire.encode(request))
        return wire.decode(reply, wire.encode(launch.run(sent, channel(fds))))


class Guest:
    """PID 1 on a launch whose secrets are in `tree`."""

    def __init__(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tree = tree
        self.children = Children()
        self.log: list[object] = []
        self.clock: list[int] = []
        self.undone: list[str] = []
        self.events: list[str] = []
        guest = SimpleNamespace(
            children=self.children,
            event=self.events.append,
            teardown=SimpleNamespace(push=lambda name, _undo: self.undone.append(name)),
            log=SimpleNamespace(
                binding=BINDING,
                bind=self.log.append,
                mix=lambda psk: self.log.append(psk.reveal()),
            ),
        )
        self.guest: Any = guest
        self.configured: Any = SimpleNamespace(
            platform=Platform(tee=Tee.SEV),
            document=DOCUMENT,
            manifest=MANIFEST,
            measurement=MeasuredEvents(),
            config=SimpleNamespace(
                owner=None, kbs=SimpleNamespace(envelope=EnvelopePolicy.REQUIRED)
            ),
        )
        monkeypatch.setattr(launch_secrets, "open_secrets", lambda: open_secrets(str(tree)))
        monkeypatch.setattr(launch_secrets, "wipe_secrets", lambda: wipe_secrets(str(tree)))
        monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
        monkeypatch.setattr(attestation, "set_clock", lambda date, _floor: self.clock.append(date))

    def attest(self) -> Any:
        return EventLoop().run(attest(self.guest, self.configured))

    def refused(self) -> str:
        with pytest.raises(CcinitError) as caught:
            self.attest()
        assert not self.log
        assert not self.clock
        return caught.value.reason

    @property
    def is_wiped(self) -> bool:
        return not list(self.tree.iterdir())


@pytest.fixture
def given() -> Launch:
    return Launch()


def booted(given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    return Guest(given.write(tmp_path / "coco"), monkeypatch)


def test_pod_gets_what_the_launch_was_given(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = booted(given, tmp_path, monkeypatch)
    attested = guest.attest()
    assert {str(uri): grant.secret.reveal() for uri, grant in attested.grants.items()} == {
        uri: b"" if uri.endswith("/log-psk") else data  # mixed into the log, and wiped
        for uri, (_kind, data) in RESOURCES.items()
        if uri != POLICY_KEY
    }
    assert [(key.resource, key.data) for key in attested.policy_keys] == [
        (POLICY_KEY, RESOURCES[POLICY_KEY][1])
    ]
    assert guest.children.roles == [Role.LAUNCH]
    assert guest.clock == [DATE]
    assert guest.events == [f"clock: set to {format_utc(DATE)}"]
    assert guest.is_wiped
    assert guest.undone == ["secrets"]


def test_log_is_bound_by_the_psk_before_it_is_mixed_in(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = booted(given, tmp_path, monkeypatch)
    guest.attest()
    voucher, psk = guest.log
    assert psk == PSK
    assert isinstance(voucher, bytes)
    said = parse_log_evidence(voucher)
    assert said.tee == "sev"
    assert verify_log_voucher(said.evidence, PSK, BINDING) == BINDING


def test_grant_to_format_a_disk_is_carried(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{NAMES}volume-key-data"
    given.entries[guid_of(uri)] = enveloped(uri, *RESOURCES[uri], create=True)
    grants = booted(given, tmp_path, monkeypatch).attest().grants
    assert {str(uri) for uri, grant in grants.items() if grant.create} == {uri}


IDENTITY = f"{NAMES}tls-identity"
PEM = b"".join(
    b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, base64.b64encode(content), label)
    for label, content in ((b"PRIVATE KEY", b"key"), (b"CERTIFICATE", b"certificate"))
)


@pytest.mark.parametrize(("data", "reason"), [(PEM, ""), (b"no PEM", "tls_identity.form")])
def test_child_reads_what_an_identity_shows(
    data: bytes, reason: str, given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given.entries[guid_of(IDENTITY)] = enveloped(IDENTITY, EnvelopeKind.TLS_IDENTITY, data)
    guest = booted(given, tmp_path, monkeypatch)
    guest.configured.config.owner = OwnerConfig(port=0, client_ca_pem="roots")
    if reason:
        assert guest.refused() == reason
        return
    grants = guest.attest().grants
    (shown,) = (grant for grant in grants.values() if grant.certificate_der)
    assert shown == grants[parse_resource_uri(IDENTITY)]
    assert (shown.certificate_der, shown.secret.reveal()) == (b"certificate", PEM)
    assert shown.identity is None


TOKEN = f"{NAMES}file-token"
CHANGES = {
    "no log-psk": ({guid_of(f"{NAMES}log-psk"): None}, "launch_secret.absent"),
    "a missing resource": ({guid_of(TOKEN): None}, "launch_secret.absent"),
    "a policy's missing key": ({guid_of(POLICY_KEY): None}, "launch_secret.absent"),
    "another kind": (
        {guid_of(TOKEN): enveloped(TOKEN, EnvelopeKind.IMAGE_KEY, b"token")},
        "envelope.kind",
    ),
    "another resource's name": (
        {guid_of(TOKEN): enveloped(f"{NAMES}file-other", EnvelopeKind.FILE, b"token")},
        "launch_secret.absent",
    ),
    "a resource that nothing asks for": (
        {guid_of("x"): enveloped(f"{NAMES}file-other", EnvelopeKind.FILE, b"token")},
        "launch_secret.unwanted",
    ),
    "one resource twice": (
        {guid_of("x"): enveloped(TOKEN, EnvelopeKind.FILE, b"other")},
        "launch_secret.duplicate",
    ),
    "bytes without an envelope": ({guid_of(TOKEN): b"token"}, "envelope.json"),
    "a secret of another use": ({guid_of("x"): bytes(32)}, "envelope.json"),
    "a file that is no entry": ({"passphrase": b"{}"}, "launch_secret.name"),
    "no statement": ({STATEMENT: None}, "launch_statement.json"),
    "a statement of another form": ({STATEMENT: b"{}"}, "launch_statement.v"),
    "a secret beyond its cap": ({guid_of("x"): bytes(64 * 1024 + 1)}, "tee.io"),
    "a short log-psk": (
        {guid_of(f"{NAMES}log-psk"): enveloped(f"{NAMES}log-psk", EnvelopeKind.LOG_PSK, b"short")},
        "launch_secret.log_psk",
    ),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_other_secrets_end_the_boot_and_are_wiped(
    change: Mapping[str, bytes | None],
    reason: str,
    given: Launch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, data in change.items():
        given.entries.pop(name, None)
        if data is not None:
            given.entries[name] = data
    guest = booted(given, tmp_path, monkeypatch)
    with pytest.raises(CcinitError) as caught:
        guest.attest()
    assert caught.value.reason == reason
    assert not guest.log
    assert guest.is_wiped


def test_file_of_the_pods_may_be_a_policys_key_too(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch's secret is taken once, whoever names it."""
    put_policy(given, POLICY_KEY, TOKEN)
    attested = booted(given, tmp_path, monkeypatch).attest()
    assert {key.resource: key.data for key in attested.policy_keys} == {
        POLICY_KEY: RESOURCES[POLICY_KEY][1],
        TOKEN: b"token",
    }
    assert attested.grants[parse_resource_uri(TOKEN)].secret.reveal() == b"token"


def test_volumes_key_is_no_policys_key(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_policy(given, POLICY_KEY, f"{NAMES}volume-key-data")
    guest = booted(given, tmp_path, monkeypatch)
    assert guest.refused() == "policy.key_kind"
    assert guest.is_wiped


def put_policy(given: Launch, *keys: str) -> None:
    uri = f"{NAMES}file-policy"
    given.entries[guid_of(uri)] = enveloped(uri, EnvelopeKind.FILE, naming(*keys))


@pytest.mark.parametrize(
    ("signer", "reason"), [("owner", ""), ("stranger", "sealed_secret.signature")]
)
def test_sealed_secret_is_taken_by_the_word_of_its_own_key_alone(
    signer: str, reason: str, given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given.entries[guid_of(KEY_URI)] = enveloped(KEY_URI, EnvelopeKind.FILE, jwk())
    guest = booted(given, tmp_path, monkeypatch)
    sealed = FULL_POD.replace(TOKEN, seal(signed_by=signer))
    guest.configured.manifest = parse_pod_manifest(sealed)
    found = ""
    try:
        guest.attest()
    except CcinitError as error:
        found = error.reason
    assert found == reason
    assert guest.is_wiped


def test_document_without_envelopes_names_nothing_here(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = booted(given, tmp_path, monkeypatch)
    guest.configured.config.kbs.envelope = EnvelopePolicy.NONE
    assert guest.refused() == "kbs.envelope"
    assert not guest.children.roles


def test_secret_that_cannot_be_wiped_ends_the_boot(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = booted(given, tmp_path, monkeypatch)
    monkeypatch.setattr("ccinit.kernel.efi_secret.os.unlink", lambda _path: None)
    assert guest.refused() == "tee.io"


def test_child_that_brings_others_is_not_believed(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = booted(given, tmp_path, monkeypatch)

    async def fewer(*_arguments: object, **_options: object) -> KbsReply:
        return KbsReply(released=(), policy_keys=(), date=DATE)

    monkeypatch.setattr(guest.children, "run", fewer)
    assert guest.refused() == "child.protocol"
    assert guest.is_wiped


def test_nothing_that_needs_evidence_is_done(
    given: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = booted(given, tmp_path, monkeypatch)
    for step in (
        lambda: request_resources(guest.guest, guest.configured, ()),
        lambda: collect_evidence(guest.guest, guest.configured, BINDING),
    ):
        with pytest.raises(CcinitError) as refused:
            EventLoop().run(step())
        assert refused.value.reason == "attest.launch_only"
    assert not guest.children.roles
    assert guest.attest()


def test_every_resource_of_the_pod_is_in_the_fake() -> None:
    wanted = {str(one.uri): one.kind for one in plan_resources(MANIFEST)}
    assert wanted == {uri: kind for uri, (kind, _) in RESOURCES.items() if uri != POLICY_KEY}


def bind(statement: bytes, tmp_path: Path, digest: bytes = DIGEST) -> None:
    path = tmp_path / "statement"
    path.write_bytes(statement)
    fd = os.open(path, os.O_RDONLY)
    try:
        reply = measure.run(BindRequest(tee=Tee.SEV, digest=digest), channel({"statement": fd}))
    finally:
        os.close(fd)
    assert reply.tee is Tee.SEV


def test_r04_document_is_compared_with_the_statement(given: Launch, tmp_path: Path) -> None:
    said = given.entries[STATEMENT]
    bind(said, tmp_path)
    with pytest.raises(CcinitError) as refused:
        bind(said, tmp_path, hashlib.sha256(b"the host's document").digest())
    assert refused.value.reason == "config.mismatch"


def test_r04_statement_of_nothing_binds_nothing(given: Launch, tmp_path: Path) -> None:
    said = json.loads(given.entries[STATEMENT])
    with pytest.raises(CcinitError) as refused:
        bind(json.dumps({**said, "initdata": "sha256:" + "0" * 64}).encode(), tmp_path)
    assert refused.value.reason == "config.unbound"
    with pytest.raises(CcinitError) as refused:
        bind(b"", tmp_path)
    assert refused.value.reason == "launch_statement.json"
