"""What the child `kbs` does with its request, over real TLS; PID 1 is played.

Its restrictions and its place in the phase are `tests/integration/attestation/test_phase.py`'s.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.agent.jobs import kbs as job
from ccinit.agent.jobs.messages.kbs import (
    ClockAnswer,
    ClockQuestion,
    EvidenceAnswer,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Wanted,
)
from ccinit.errors import CcinitError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.json_text import canonical_json
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.initdata.guest_config import (
    AttestationService,
    EnvelopePolicy,
    KbsTransport,
    PassportConfig,
)
from ccinit.formats.kbs.debug_grant import DebugGrant, encode_debug_grant
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm, parse_jwk
from ccinit.formats.kbs.resource_uri import parse_kbs_uri, parse_resource_uri
from ccinit.formats.kbs.tls_identity import ExpectedIdentity, VerifiedIdentity
from ccinit.values import replace
from tests.fakes.kbs import attestation_service
from tests.fakes.kbs.attestation_service import AzureAttestation, tdx_evidence
from tests.fakes.kbs.http import DATE, FakeKbs, evidence_for
from tests.fakes.kbs.tls import KbsServer
from tests.fakes.network.tls_server import DAY, identity_pem, make_authority, server_context

URI = parse_resource_uri("kbs:///ccinit/pod/log-psk")
KIND = EnvelopeKind.LOG_PSK


@dataclass
class PlayedChannel:
    """PID 1 answers for evidence of a platform, and for the clock, which does nothing here.

    Attributes:
        times: what the clock was to be set forward to.
        set_forward: what happens then.
    """

    tee: Tee
    asked: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    set_forward: Callable[[], None] = lambda: None

    def ask(self, question: EvidenceQuestion | ClockQuestion, answer: type[object]) -> object:
        if isinstance(question, ClockQuestion):
            assert answer is ClockAnswer
            self.times.append(question.seconds)
            self.set_forward()
            return ClockAnswer()
        assert answer is EvidenceAnswer
        self.asked.append(question.report_data)
        make = evidence_for if self.tee is Tee.TPM else tdx_evidence
        evidence = make(ReportData(question.report_data), question.verifiers_request)
        return EvidenceAnswer(evidence=canonical_json(evidence))


def run(
    request: KbsRequest, set_forward: Callable[[], None] = lambda: None
) -> tuple[KbsReply, PlayedChannel]:
    channel = PlayedChannel(request.tee, set_forward=set_forward)
    return job.run(request, cast("Any", channel)), channel


def request_to(server: KbsServer, **changes: Any) -> KbsRequest:
    request = KbsRequest(
        url=server.url,
        ca_pem=server.authority.pem,
        transport=KbsTransport.TCP,
        tee=Tee.TPM,
        document="",
        envelope=EnvelopePolicy.REQUIRED,
        tee_key_algorithm=TeeKeyAlgorithm.P256,
        passport=None,
        wanted=(Wanted(uri=URI, kind=KIND),),
        seconds=20,
    )
    return replace(request, **changes)


def fake_kbs() -> FakeKbs:
    body = encode_envelope(Envelope(uri=URI, kind=KIND, data=b"psk"))
    return FakeKbs(resources={URI.path: body})


def test_resources_come_with_the_time_of_the_kbs() -> None:
    with KbsServer(kbs=fake_kbs()) as server:
        reply, channel = run(request_to(server))
    assert ([released.data for released in reply.released], reply.date) == ([b"psk"], DATE)
    assert len(channel.asked) == 1


def test_dates_of_certificates_count_once_there_is_a_clock() -> None:
    old = make_authority()
    expired = server_context(old.issue(age=40 * DAY, life=30 * DAY))
    with KbsServer(kbs=fake_kbs(), authority=old, context=expired) as server:
        reply, _ = run(request_to(server, has_clock=False))
        assert [released.data for released in reply.released] == [b"psk"]
        with pytest.raises(CcinitError) as refused:
            run(request_to(server))
    assert refused.value.reason == "net.certificate_time"


def test_kbs_whose_certificate_is_younger_than_the_clock_is_asked_for_the_time_first(
    tmp_path: Path,
) -> None:
    authority = make_authority()
    context = server_context(authority.issue(age=-DAY))
    (tmp_path / "valid.pem").write_bytes(identity_pem(authority.issue()))

    def become_valid() -> None:  # as it does once the clock is right
        context.load_cert_chain(tmp_path / "valid.pem")

    with KbsServer(kbs=fake_kbs(), authority=authority, context=context) as server:
        reply, channel = run(request_to(server), become_valid)
    assert [released.data for released in reply.released] == [b"psk"]
    assert (channel.times, len(channel.asked)) == ([DATE], 1)
    assert server.requests[0].startswith(b"GET /kbs/v0/auth ")  # nothing of the guest's goes along


def test_time_is_no_way_around_dates() -> None:
    authority = make_authority()
    early = server_context(authority.issue(age=-DAY))
    with KbsServer(kbs=fake_kbs(), authority=authority, context=early) as server:
        with pytest.raises(CcinitError) as refused:
            run(request_to(server))  # the clock does not move
        assert refused.value.reason == "net.certificate_early"
        assert [one.split()[0] for one in server.requests] == [b"GET"]
    strangers = server_context(make_authority().issue(age=-DAY))
    with KbsServer(kbs=fake_kbs(), authority=authority, context=strangers) as server:
        with pytest.raises(CcinitError) as refused:
            run(request_to(server))
        assert (refused.value.reason, server.requests) == ("net.certificate", [])


def test_bodies_without_envelopes_come_as_they_are_only_if_that_was_said() -> None:
    kbs = FakeKbs(resources={URI.path: b"plain"})
    with KbsServer(kbs=kbs) as server:
        reply, _ = run(request_to(server, envelope=EnvelopePolicy.NONE))
        assert [released.data for released in reply.released] == [b"plain"]
        with pytest.raises(CcinitError) as refused:
            run(request_to(server))
    assert refused.value.reason == "envelope.json"


def test_device_that_the_host_asked_for_attests_first() -> None:
    kbs = fake_kbs()
    with KbsServer(kbs=kbs) as server:
        reply, _ = run(request_to(server, devices=("sampledevice",)))
        assert [released.data for released in reply.released] == [b"psk"]
        with pytest.raises(CcinitError) as refused:
            run(request_to(server, devices=("nvidia",)))
    assert refused.value.reason == "attest.device"
    (additional,) = kbs.additional
    assert set(json.loads(additional)) == {"sampledevice"}


def test_what_a_plugin_makes_is_taken_only_without_envelopes() -> None:
    uri = parse_kbs_uri("kbs+nebula-ca:///credential?name=pod")
    kbs = FakeKbs(resources={"nebula-ca/credential?name=pod": b"a credential"})
    wanted = (Wanted(uri=uri, kind=EnvelopeKind.FILE),)
    with KbsServer(kbs=kbs) as server:
        reply, _ = run(request_to(server, envelope=EnvelopePolicy.NONE, wanted=wanted))
        assert [released.data for released in reply.released] == [b"a credential"]
        with pytest.raises(CcinitError) as refused:
            run(request_to(server, wanted=wanted))
    assert refused.value.reason == "kbs.envelope"
    assert kbs.released == ["nebula-ca/credential?name=pod"]


def test_passport_is_got_under_the_services_own_root_and_time_is_the_kbss() -> None:
    kbs = fake_kbs()
    service = AzureAttestation(kbs=kbs)
    with (
        KbsServer(kbs=kbs) as server,
        KbsServer(service=service, base=attestation_service.URL) as azure,
    ):
        passport = PassportConfig(
            service=AttestationService.AZURE,
            url=azure.url,
            ca_pem=azure.authority.pem,
            api_key=None,
            policy_ids=(),
        )
        reply, channel = run(request_to(server, tee=Tee.TDX, passport=passport))
        assert [released.data for released in reply.released] == [b"psk"]
        assert reply.date == DATE
        assert len(channel.asked) == len(azure.requests) == len(server.requests) == 1
        [token] = kbs.passports
        assert b"\r\nAuthorization: Bearer " + token.encode() in server.requests[0].replace(
            b"authorization", b"Authorization"
        )

        for changed in (
            replace(passport, ca_pem=server.authority.pem),
            replace(passport, ca_pem=make_authority().pem),
        ):
            with pytest.raises(CcinitError) as refused:
                run(request_to(server, tee=Tee.TDX, passport=changed))
            assert refused.value.reason == "net.certificate"
        assert len(azure.requests) == len(server.requests) == 1


GRANT_URI = parse_resource_uri("kbs:///ccinit/pod/debug-grant")


def granting_kbs(*, kind: EnvelopeKind = EnvelopeKind.DEBUG_GRANT, **changes: Any) -> FakeKbs:
    """A KBS that makes a debug grant for the key of whoever asks, with something changed."""
    kbs = FakeKbs()

    def make_grant(_call: object) -> None:
        grant = DebugGrant(
            evidence_key=parse_jwk(kbs.keys[-1]).thumbprint(),
            expires_s=DATE + 600,
            tools_root=RootHash(b"\xab" * 32),
            keep_pod=True,
        )
        data = encode_debug_grant(replace(grant, **changes))
        body = encode_envelope(Envelope(uri=GRANT_URI, kind=kind, data=data))
        kbs.resources[GRANT_URI.path] = body

    kbs.faults = [None, None, make_grant]
    return kbs


def ask_for_grant(kbs: FakeKbs, **changes: Any) -> KbsReply:
    with KbsServer(kbs=kbs) as server:
        reply, _ = run(request_to(server, wanted=(), debug_grant=GRANT_URI, **changes))
    return reply


@pytest.mark.parametrize("envelope", list(EnvelopePolicy))
def test_debug_grant_is_for_the_sessions_own_key(envelope: EnvelopePolicy) -> None:
    kbs = granting_kbs()
    reply = ask_for_grant(kbs, envelope=envelope)
    assert reply.debug_grant == DebugGrant(
        evidence_key=parse_jwk(kbs.keys[-1]).thumbprint(),
        expires_s=DATE + 600,
        tools_root=RootHash(b"\xab" * 32),
        keep_pod=True,
    )
    assert (reply.date, reply.released) == (DATE, ())
    assert wire.decode(KbsReply, wire.encode(reply)) == reply


@pytest.mark.parametrize(
    ("kbs", "reason"),
    [
        (granting_kbs(evidence_key=bytes(32)), "debug.evidence_key"),
        (granting_kbs(expires_s=DATE), "debug.expired"),
        (granting_kbs(expires_s=DATE + (1 << 20)), "debug.too_long"),
        (granting_kbs(kind=EnvelopeKind.FILE), "envelope.kind"),
        (FakeKbs(), "kbs.plugin_internal_error"),
    ],
)
def test_debug_grant_that_is_none_is_refused(kbs: FakeKbs, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        ask_for_grant(kbs)
    assert refused.value.reason == reason


IDENTITY_URI = parse_resource_uri("kbs:///ccinit/pod/tls-identity")
OWNERS, STRANGERS = make_authority(), make_authority()
OWNERS_DER = OWNERS.certificate.public_bytes(Encoding.DER)


def ask_for_identity(
    pem: bytes, *, kind: EnvelopeKind = EnvelopeKind.TLS_IDENTITY, has_clock: bool = True
) -> KbsReply:
    return fetch_identity(pem, kind=kind, has_clock=has_clock)[0]


def fetch_identity(
    pem: bytes, *, kind: EnvelopeKind = EnvelopeKind.TLS_IDENTITY, has_clock: bool = True
) -> tuple[KbsReply, PlayedChannel]:
    body = encode_envelope(Envelope(uri=IDENTITY_URI, kind=kind, data=pem))
    expected = ExpectedIdentity(pod="pod", roots_pem=OWNERS.pem, top_der=OWNERS_DER)
    wanted = Wanted(uri=IDENTITY_URI, kind=EnvelopeKind.TLS_IDENTITY, identity=expected)
    with KbsServer(kbs=FakeKbs(resources={IDENTITY_URI.path: body})) as server:
        return run(request_to(server, wanted=(wanted,), has_clock=has_clock))


def test_identity_comes_with_what_was_found_of_it() -> None:
    issued = OWNERS.issue(("pod",))
    reply = ask_for_identity(identity_pem(issued, OWNERS))
    [released] = reply.released
    assert released.data == identity_pem(issued, OWNERS)
    assert released.certificate_der == issued[1].public_bytes(Encoding.DER)
    assert released.identity == VerifiedIdentity(
        top_der=OWNERS_DER,
        not_before=int(issued[1].not_valid_before_utc.timestamp()),
        not_after=int(issued[1].not_valid_after_utc.timestamp()),
    )
    assert wire.decode(KbsReply, wire.encode(reply)) == reply


def test_dates_of_an_identity_count_once_there_is_a_clock() -> None:
    pem = identity_pem(OWNERS.issue(("pod",), age=2 * DAY, life=DAY))
    assert ask_for_identity(pem, has_clock=False).released[0].identity
    with pytest.raises(CcinitError) as refused:
        ask_for_identity(pem)
    assert refused.value.reason == "tls_identity.time"


def test_identity_is_looked_at_when_the_clock_is_the_kbss() -> None:
    pem = identity_pem(OWNERS.issue(("pod",)))
    assert fetch_identity(pem)[1].times == [DATE]
    assert fetch_identity(pem, has_clock=False)[1].times == []  # ATTEST sets it, when all is there


@pytest.mark.parametrize(
    ("pem", "kind", "reason"),
    [
        (OWNERS.issue(("shop",)), EnvelopeKind.TLS_IDENTITY, "tls_identity.name"),
        (STRANGERS.issue(("pod",)), EnvelopeKind.TLS_IDENTITY, "tls_identity.chain"),
        (OWNERS.issue(("pod",)), EnvelopeKind.FILE, "envelope.kind"),
    ],
    ids=["name", "chain", "envelope"],
)
def test_identity_of_another_is_refused_before_it_reaches_pid_1(
    pem: Any, kind: EnvelopeKind, reason: str
) -> None:
    with pytest.raises(CcinitError) as refused:
        ask_for_identity(identity_pem(pem), kind=kind)
    assert refused.value.reason == reason
