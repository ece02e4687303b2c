"""The guest's client against the owner's running KBS: TLS, handshake, quote, release, refusal.

Both ends are this project's; each is tested against independent code elsewhere. The quote is made
by the guest's Attester over a simulated TPM.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ccinit.agent.jobs.kbs import run as kbs_job
from ccinit.agent.jobs.messages.kbs import EvidenceAnswer, EvidenceQuestion, KbsRequest, Wanted
from ccinit.attest.client import KbsClient
from ccinit.attest.patience import Waiting
from ccinit.attest.sample_device import SampleDevice
from ccinit.attest.tpm import TpmAttester
from ccinit.errors import CcinitError
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.initdata.guest_config import EnvelopePolicy, KbsTransport
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.release import MAX_BODY_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.net.http import HttpClient
from ccinit.net.tls import pinned_context
from guest_owner.kbs.state.store import Store
from tests.fakes.network.tls_server import make_authority
from tests.fakes.platforms.tpm_device import SimulatedDevice, SimulatedTpm
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.integration.kbs.harness import (
    DOCUMENT,
    SECRET,
    TEST_IMAGE,
    URI,
    Kbs,
    booted_tpm,
    make_state,
    put_back,
    run,
    running_kbs,
)

RESOURCE = parse_resource_uri("kbs:///" + URI)


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    with running_kbs(make_state(tmp_path_factory.mktemp("owner"))) as server:
        yield server


@dataclass
class Guest:
    """One guest with a TPM and an initdata document."""

    kbs: Kbs
    tpm: FakeTpm
    init_data: str = DOCUMENT.decode()
    roots: Path | None = None
    devices: tuple[SampleDevice, ...] = ()
    waiting: Waiting | None = None
    while_quoting: Callable[[], None] = lambda: None

    @contextmanager
    def client(self) -> Iterator[KbsClient]:
        """The guest's client, which has not attested yet."""
        attester = TpmAttester(SimulatedDevice(SimulatedTpm(tpm=self.tpm)))

        def evidence_for(report_data: ReportData, _request: bytes) -> JsonValue:
            self.while_quoting()
            return attester.collect_evidence(report_data)

        roots = (self.roots or self.kbs.state / "ca.pem").read_text()
        with HttpClient(pinned_context(roots, check_time=False)) as transport:
            yield KbsClient(
                url=self.kbs.url,
                transport=transport,
                tee=Tee.TPM,
                evidence_for=evidence_for,
                init_data=self.init_data,
                devices=self.devices,
                waiting=self.waiting,
            )

    def fetch(self, *uris: str, between: object = None) -> list[bytes]:
        bodies = []
        with self.client() as client:
            for uri in uris:
                resource = client.get_resource(parse_resource_uri(uri))
                assert resource.date is not None
                assert abs(resource.date - time.time()) < 60
                bodies.append(resource.body.reveal())
                if callable(between):
                    between()
        return bodies


def refused_reason(guest: Guest, uri: str = str(RESOURCE)) -> str:
    with pytest.raises(CcinitError) as refused:
        guest.fetch(uri)
    return refused.value.reason


def test_registered_guest_gets_its_resource_with_the_date(kbs: Kbs) -> None:
    assert Guest(kbs, booted_tpm()).fetch(str(RESOURCE), str(RESOURCE)) == [SECRET, SECRET]


def test_largest_resource_that_the_kbs_stores_reaches_the_guest(kbs: Kbs) -> None:
    uri, largest = ResourceUri("ccinit", "shop", "file-large"), os.urandom(MAX_BODY_BYTES)
    Store(kbs.state).write_resource(uri, largest)
    assert Guest(kbs, booted_tpm()).fetch(str(uri)) == [largest]


def test_expired_session_is_renewed_in_between(kbs: Kbs) -> None:
    def expire() -> None:
        kbs.clock.now += 10_000

    assert Guest(kbs, booted_tpm()).fetch(str(RESOURCE), str(RESOURCE), between=expire) == [
        SECRET,
        SECRET,
    ]


def test_guest_whose_session_ends_while_it_makes_its_evidence_begins_anew(kbs: Kbs) -> None:
    """So does one whose KBS was restarted meanwhile, or whose session a flood pushed out."""
    passing = iter((10_000,))

    def end_once() -> None:
        kbs.clock.now += next(passing, 0)

    before = len(kbs.audit())
    guest = Guest(kbs, booted_tpm(), waiting=Waiting(sleep=lambda _: None), while_quoting=end_once)
    assert guest.fetch(str(RESOURCE)) == [SECRET]
    decisions = [(one["event"], one["decision"]) for one in kbs.audit()[before:]]
    assert decisions == [("attest", "refused"), ("attest", "accepted"), ("resource", "released")]


def test_r35_rotated_key_reaches_only_the_next_boot(kbs: Kbs, tmp_path: Path) -> None:
    """What a guest holds stays as it was fetched; no one asks for it a second time."""
    uri = "kbs:///ccinit/shop/file-key"
    (tmp_path / "key").write_bytes(b"the first key")
    run("register", "resource", "--state", kbs.state, uri, tmp_path / "key")
    released: list[int] = []

    def rotate() -> None:
        (tmp_path / "key").write_bytes(b"the second key")
        run("register", "resource", "--state", kbs.state, uri, tmp_path / "key")
        released.append(len(kbs.audit()))

    [held] = Guest(kbs, booted_tpm()).fetch(uri, between=rotate)
    assert held == b"the first key"
    assert released == [len(kbs.audit())]
    assert Guest(kbs, booted_tpm()).fetch(uri) == [b"the second key"]


class Asking:
    """A job's channel: PID 1 answers with evidence."""

    def __init__(self) -> None:
        self.attester = TpmAttester(SimulatedDevice(SimulatedTpm(tpm=booted_tpm())))

    def ask(self, question: EvidenceQuestion, _answer: type[EvidenceAnswer]) -> EvidenceAnswer:
        evidence = self.attester.collect_evidence(ReportData(question.report_data))
        return EvidenceAnswer(evidence=canonical_json(evidence))


def test_keys_that_an_image_policy_names_come_with_it(kbs: Kbs) -> None:
    policy, key = (ResourceUri("ccinit", "shop", f"file-{name}") for name in ("policy", "cosign"))
    document = json.dumps({"default": [{"type": "sigstoreSigned", "keyPath": str(key)}]}).encode()
    Store(kbs.state).write_resource(policy, document)
    Store(kbs.state).write_resource(key, b"PEM")
    request = KbsRequest(
        url=kbs.url,
        ca_pem=(kbs.state / "ca.pem").read_text(),
        tee=Tee.TPM,
        document=DOCUMENT.decode(),
        envelope=EnvelopePolicy.NONE,
        transport=KbsTransport.TCP,
        tee_key_algorithm=TeeKeyAlgorithm.P256,
        passport=None,
        wanted=(
            Wanted(uri=policy, kind=EnvelopeKind.FILE, is_policy=True),
            Wanted(uri=RESOURCE, kind=EnvelopeKind.FILE),
        ),
        seconds=30,
    )
    channel: Any = Asking()
    reply = kbs_job(request, channel)
    assert [one.data for one in reply.released] == [document, SECRET]
    assert [(one.uri, one.data) for one in reply.policy_keys] == [(key, b"PEM")]
    Store(kbs.state).write_resource(policy, b"{}")
    with pytest.raises(CcinitError) as refused:
        kbs_job(request, channel)
    assert refused.value.reason == "policy.default"


def test_unregistered_key_and_changed_image_are_refused(kbs: Kbs) -> None:
    assert refused_reason(Guest(kbs, booted_tpm(key=7))) == "kbs.attestation_error"
    changed = booted_tpm()
    changed.pcrs[4] = b"\x01" * 32
    assert refused_reason(Guest(kbs, changed)) == "kbs.attestation_error"


def test_device_that_no_rule_names_is_refused_by_name(kbs: Kbs) -> None:
    assert Guest(kbs, booted_tpm()).fetch(str(RESOURCE)) == [SECRET]
    guest = Guest(kbs, booted_tpm(), devices=(SampleDevice(),))
    assert refused_reason(guest) == "kbs.attestation_error"
    assert str(kbs.audit()[-1]["reason"]).startswith("device.sampledevice: ")


@pytest.fixture
def device_rule(kbs: Kbs, tmp_path: Path) -> Iterator[str]:
    """A rule for guests of the test image that have the device; return a resource of theirs."""
    uri = "kbs:///test/shop/password"
    (tmp_path / "secret").write_bytes(b"for tests")
    state = ("--state", kbs.state)
    run("register", "resource", *state, uri, tmp_path / "secret")
    options = ("--initdata", "shop", "--profile", "test", "--device", "sampledevice")
    run("policy", "allow", *state, "test/shop/*", *options)
    yield uri
    run("policy", "remove", *state, 2)


def test_device_vouches_where_a_test_rule_names_it(kbs: Kbs, device_rule: str) -> None:
    """The device that images of the test profile have, and evidence that is composed by them."""
    guest = Guest(kbs, booted_tpm(TEST_IMAGE), devices=(SampleDevice(),))
    assert guest.fetch(device_rule) == [b"for tests"]
    attest, release = kbs.audit()[-2:]
    assert (attest["decision"], attest["devices"]) == ("accepted", "sampledevice")
    assert release["decision"] == "released"
    assert refused_reason(replace(guest, devices=()), device_rule) == "kbs.policy_deny"
    assert kbs.audit()[-1]["reason"] == "the guest has no sampledevice"


def test_device_opens_nothing_of_productions(kbs: Kbs, device_rule: str) -> None:
    guest = Guest(kbs, booted_tpm(), devices=(SampleDevice(),))
    assert refused_reason(guest) == "kbs.policy_deny"
    assert kbs.audit()[-1]["reason"] == "device sampledevice is not named"
    assert refused_reason(guest, device_rule) == "kbs.policy_deny"
    assert Guest(kbs, booted_tpm()).fetch(str(RESOURCE)) == [SECRET]


class StaleDevice(SampleDevice):
    """Says what it said in another handshake."""

    def collect_evidence(self, _digest: bytes) -> JsonValue:
        return super().collect_evidence(bytes(48))


def test_device_of_another_handshake_is_refused_by_name(kbs: Kbs, device_rule: str) -> None:
    guest = Guest(kbs, booted_tpm(TEST_IMAGE), devices=(StaleDevice(),))
    assert refused_reason(guest, device_rule) == "kbs.attestation_error"
    assert str(kbs.audit()[-1]["reason"]).startswith("sampledevice.report_data: ")


def test_document_of_the_host_is_refused(kbs: Kbs) -> None:
    guest = Guest(kbs, booted_tpm(), init_data=DOCUMENT.decode() + "\n")
    assert refused_reason(guest) == "kbs.attestation_error"


def test_resource_of_another_pod_is_denied_by_policy(kbs: Kbs) -> None:
    assert refused_reason(Guest(kbs, booted_tpm()), "kbs:///ccinit/bank/pin") == "kbs.policy_deny"


def test_absent_resource_is_told_by_its_type(kbs: Kbs) -> None:
    reason = refused_reason(Guest(kbs, booted_tpm()), "kbs:///ccinit/shop/absent")
    assert reason == "kbs.plugin_internal_error"


def test_kbs_under_another_root_is_asked_nothing(kbs: Kbs, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text(make_authority().pem)
    before = len(kbs.audit())
    assert refused_reason(Guest(kbs, booted_tpm(), roots=roots)) == "net.certificate"
    assert len(kbs.audit()) == before


@pytest.mark.parametrize("file", ["policy.toml", "references/image-1.json"])
def test_guest_asks_again_while_the_owner_edits_a_file(kbs: Kbs, file: str) -> None:
    path = kbs.state / file
    with put_back(path) as whole:

        def finish(_seconds: float) -> None:
            path.write_bytes(whole)

        path.write_bytes(whole[:-3])
        guest = Guest(kbs, booted_tpm(), waiting=Waiting(sleep=finish))
        assert guest.fetch(str(RESOURCE)) == [SECRET]


def test_guest_asks_again_while_the_audit_log_cannot_be_written(kbs: Kbs) -> None:
    guest = Guest(kbs, booted_tpm(), waiting=Waiting(sleep=lambda _seconds: path.rmdir()))
    guest.fetch(str(RESOURCE))
    path, aside = kbs.state / "audit.jsonl", kbs.state / "aside"
    path.rename(aside)
    path.mkdir()
    assert guest.fetch(str(RESOURCE)) == [SECRET]
    assert path.is_file()
    aside.unlink()
