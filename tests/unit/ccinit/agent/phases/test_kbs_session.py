"""What each handshake with the KBS asks for, and what of its reply is kept."""

import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ccinit.agent.guest import PhaseTime
from ccinit.agent.jobs.messages.kbs import (
    ClockQuestion,
    ConnectionAnswer,
    ConnectionQuestion,
    CounterStep,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Released,
)
from ccinit.agent.phases import attestation, kbs_session
from ccinit.agent.phases.kbs_session import request_debug_grant, request_resources, request_token
from ccinit.agent.teardown import Teardown
from ccinit.errors import CcinitError, ConfigError, DeadlineError, KernelError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT, KbsTransport
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.rollback_counter import counter_uri
from ccinit.formats.kbs.tls_identity import VerifiedIdentity
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.kernel.event_loop import EventLoop
from tests.fakes.documents.guest import FULL_POD
from tests.unit.ccinit.agent.phases.attesting import configured_on

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NOW = 1_800_000_000
COUNTED_POD = FULL_POD.replace('"persistent"', '"persistent"\nrollback = "kbs-counter"')
COUNTER = counter_uri("demo", "data")
VOLUME_KEY = parse_resource_uri("kbs:///ccinit/demo/volume-key-data")
TLS_IDENTITY = parse_resource_uri("kbs:///ccinit/demo/tls-identity")
GRANT = DebugGrant(
    evidence_key=bytes(32), expires_s=NOW, tools_root=RootHash(bytes(32)), keep_pod=False
)
IDENTITY = VerifiedIdentity(top_der=b"top", not_before=0, not_after=1)


class Kbs:
    """Stands for the children of one guest; its reply has whatever was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[KbsRequest] = []
        self.answers: list[dict[object, Callable[[Any], Coroutine[object, None, Any]]]] = []
        self.grant: DebugGrant | None = GRANT
        self.guest: Any = SimpleNamespace(
            children=self,
            event=lambda _text: None,
            phase_time=PhaseTime(),
            teardown=Teardown(),
            log=SimpleNamespace(mix=lambda _psk: None, bind=lambda _evidence: None),
        )

        async def answering(*_: object) -> object:
            return None

        monkeypatch.setattr(kbs_session, "answering", answering)
        monkeypatch.setattr(kbs_session, "advance_clock", lambda _seconds: 0)
        monkeypatch.setattr(attestation, "set_clock", lambda *_times: None)
        monkeypatch.setattr(attestation, "read_build_time", lambda: 0)

    async def run(
        self, _role: object, request: KbsRequest, _reply: object, *, answers: Any, seconds: float
    ) -> KbsReply:
        assert seconds == 10
        self.requests.append(request)
        self.answers.append(answers)
        return KbsReply(
            released=tuple(
                Released(uri=one.uri, data=b"x", create=one.uri == VOLUME_KEY, identity=None)
                for one in request.wanted
            ),
            policy_keys=(),
            date=NOW,
            token="token" if request.with_token else "",
            counters=tuple(range(7, 7 + len(request.counters))),
            debug_grant=self.grant if request.debug_grant is not None else None,
        )


@pytest.fixture
def kbs(monkeypatch: pytest.MonkeyPatch) -> Kbs:
    return Kbs(monkeypatch)


def test_boots_handshake_reads_the_counters_and_keeps_them(kbs: Kbs) -> None:
    attested = EventLoop().run(attestation.attest(kbs.guest, configured_on(pod=COUNTED_POD)))
    assert attested.counters == {COUNTER: 7}
    (request,) = kbs.requests
    assert request.counters == (CounterStep(uri=COUNTER),)
    assert (request.has_clock, request.with_token, request.debug_grant) == (False, False, None)
    assert request.devices == ("nvidia",)
    assert [uri for uri, grant in attested.grants.items() if grant.create] == [VOLUME_KEY]


def test_counter_that_nobody_keeps_is_refused_before_anything_is_read(
    kbs: Kbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: object) -> KbsReply:
        raise KernelError(errno.ENOENT, "read", "the launch's secrets")

    monkeypatch.setattr(attestation, "read_launch_secrets", read)

    def refusal(configured: Any) -> CcinitError:
        with pytest.raises(CcinitError) as refused:
            EventLoop().run(attestation.attest(kbs.guest, configured))
        return refused.value

    configured = configured_on(Tee.SEV, pod=COUNTED_POD)
    refused = refusal(configured)
    assert (type(refused), refused.reason) == (ConfigError, "attest.launch_only")
    configured.manifest = parse_pod_manifest(FULL_POD)
    assert refusal(configured).reason == "kernel.read"


def test_token_is_asked_for_alone(kbs: Kbs) -> None:
    assert EventLoop().run(request_token(kbs.guest, configured_on())) == "token"
    (request,) = kbs.requests
    assert (request.with_token, request.wanted, request.counters) == (True, (), ())
    assert request.has_clock


def test_debug_grant_is_this_pods_and_has_to_come(kbs: Kbs) -> None:
    asking = request_debug_grant(kbs.guest, configured_on())
    assert EventLoop().run(asking) == (GRANT, NOW)
    (request,) = kbs.requests
    assert request.debug_grant == parse_resource_uri("kbs:///ccinit/demo/debug-grant")
    kbs.grant = None
    with pytest.raises(CcinitError) as refused:
        EventLoop().run(request_debug_grant(kbs.guest, configured_on()))
    assert refused.value.reason == "child.protocol"


def test_what_was_found_of_an_identity_stays_with_its_grant() -> None:
    released = Released(uri=TLS_IDENTITY, data=b"x", create=False, identity=IDENTITY)
    (grant,) = kbs_session.take_grants(
        KbsReply(released=(released,), policy_keys=(), date=NOW)
    ).values()
    assert grant.identity == IDENTITY


def test_child_may_connect_to_the_host_only_if_its_kbs_is_behind_the_relay(kbs: Kbs) -> None:
    for transport in (KbsTransport.TCP, KbsTransport.VSOCK):
        configured = configured_on(transport=transport)
        EventLoop().run(request_resources(kbs.guest, configured, ()))
        EventLoop().run(request_resources(kbs.guest, configured, (), has_clock=False))
    expected: list[set[object]] = [
        {EvidenceQuestion, ClockQuestion},
        {EvidenceQuestion},
        {EvidenceQuestion, ClockQuestion, ConnectionQuestion},
        {EvidenceQuestion, ConnectionQuestion},
    ]
    assert [answers.keys() for answers in kbs.answers] == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KernelError(errno.ECONNRESET, "connect", "2:1025"), errno.ECONNRESET),
        (DeadlineError("net.timeout", "2:1025"), errno.ETIMEDOUT),
    ],
)
def test_relay_that_is_not_there_is_for_the_child_to_try_again(
    error: CcinitError, code: int, kbs: Kbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(_port: int, seconds: float) -> object:
        assert seconds == 1.5
        raise error

    monkeypatch.setattr(kbs_session, "connect_to_host", connect)
    configured = configured_on(transport=KbsTransport.VSOCK)
    EventLoop().run(request_resources(kbs.guest, configured, ()))
    question = ConnectionQuestion(milliseconds=1500)
    answer = EventLoop().run(kbs.answers[0][ConnectionQuestion](question))
    assert (answer.value, answer.fds) == (ConnectionAnswer(errno=code), ())


def test_connection_to_the_relay_is_handed_to_the_child(
    kbs: Kbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(port: int, _seconds: float) -> object:
        assert port == KBS_VSOCK_PORT
        return SimpleNamespace(detach=lambda: 77)

    monkeypatch.setattr(kbs_session, "connect_to_host", connect)
    configured = configured_on(transport=KbsTransport.VSOCK)
    EventLoop().run(request_resources(kbs.guest, configured, ()))
    question = ConnectionQuestion(milliseconds=1500)
    answer = EventLoop().run(kbs.answers[0][ConnectionQuestion](question))
    assert (answer.value, answer.fds) == (ConnectionAnswer(errno=0), (77,))
