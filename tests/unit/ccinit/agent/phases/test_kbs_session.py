"""What each handshake with the KBS asks for, and what of its reply is kept."""

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.guest import PhaseTime
from ccinit.agent.jobs.messages.kbs import (
    ClockAnswer,
    ClockQuestion,
    ConnectionAnswer,
    ConnectionQuestion,
    CounterStep,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Released,
)
from ccinit.agent.phases import kbs_session
from ccinit.agent.phases.kbs_session import request_debug_grant, request_resources, request_token
from ccinit.boot import clock
from ccinit.errors import CcinitError, ChildError, DeadlineError, KernelError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import KBS_VSOCK_PORT, KbsTransport, OwnerConfig
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.tls_identity import VerifiedIdentity
from ccinit.kernel.event_loop import EventLoop
from ccinit.values import replace
from tests.unit.ccinit.agent.phases.attesting import Session, configured_on
from tests.unit.ccinit.agent.phases.kbs_of_replies import (
    COUNTER,
    GRANT,
    NOW,
    Kbs,
)

TLS_IDENTITY = parse_resource_uri("kbs:///ccinit/demo/tls-identity")
IDENTITY = VerifiedIdentity(top_der=b"top", not_before=0, not_after=1)


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


OTHER = parse_resource_uri("kbs:///ccinit/demo/log-psk")
LOOKED_AT = Released(
    uri=TLS_IDENTITY,
    data=b"x",
    create=False,
    identity=VerifiedIdentity(top_der=b"", not_before=0, not_after=1),
    certificate_der=b"certificate",
)


@pytest.mark.parametrize(
    ("released", "counters"),
    [
        pytest.param((), (7,), id="none"),
        pytest.param((LOOKED_AT, LOOKED_AT), (7,), id="one-too-many"),
        pytest.param((replace(LOOKED_AT, uri=OTHER),), (7,), id="another"),
        pytest.param((replace(LOOKED_AT, identity=None),), (7,), id="identity-not-looked-at"),
        pytest.param((replace(LOOKED_AT, certificate_der=b""),), (7,), id="nothing-to-show"),
        pytest.param((LOOKED_AT,), (), id="no-counter"),
        pytest.param((LOOKED_AT,), (7, 7), id="counter-too-many"),
    ],
)
def test_kbs_child_that_brings_something_else_than_asked_for_is_refused(
    released: tuple[Released, ...], counters: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, configured = Session(monkeypatch), configured_on(Tee.TPM)
    owner, steps = OwnerConfig(port=0, client_ca_pem="roots"), (CounterStep(uri=COUNTER),)
    wanted = (kbs_session.want_identity(configured.manifest, owner),)

    def ask() -> KbsReply:
        return EventLoop().run(
            request_resources(session.guest, configured, wanted, counters=steps, has_clock=False)
        )

    session.released, session.counters = (LOOKED_AT,), (7,)
    assert ask().released == (LOOKED_AT,)
    session.released, session.counters = released, counters
    with pytest.raises(ChildError) as refused:
        ask()
    assert refused.value.reason == "child.protocol"


@pytest.mark.parametrize(
    ("date", "has_clock", "late"),
    [(NOW + 604_800, True, 604_800), (NOW, True, 0), (NOW - 9, True, 0), (NOW + 9, False, 0)],
    ids=["a week behind", "in time", "ahead", "no clock yet"],
)
def test_clock_follows_the_kbs_forward(
    date: int,
    has_clock: bool,  # noqa: FBT001
    late: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, settings = Session(monkeypatch), list[int]()
    session.date = date
    monkeypatch.setattr(clock, "realtime", lambda: NOW + 0.5)
    monkeypatch.setattr(clock, "set_realtime", settings.append)
    configured = configured_on(Tee.TPM)
    asking = request_resources(session.guest, configured, (), has_clock=has_clock)
    assert EventLoop().run(asking).date == date
    assert settings == [date] * bool(late)
    said = [f"clock: {late} s late, set forward to what the KBS says"] * bool(late)
    assert session.done == said
    assert session.guest.clock_doubted.is_set() is bool(late)


@pytest.mark.parametrize("has_clock", [True, False])
def test_kbs_child_may_have_a_clock_set_forward_that_was_set(
    has_clock: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, settings = Session(monkeypatch, plays_child=False), list[int]()
    monkeypatch.setattr(clock, "realtime", lambda: NOW + 0.5)
    monkeypatch.setattr(clock, "set_realtime", settings.append)

    async def run(*_job: object, answers: Any, **_options: object) -> KbsReply:
        assert (ClockQuestion in answers) is has_clock
        if has_clock:
            answer = await answers[ClockQuestion](ClockQuestion(seconds=NOW + 60))
            assert answer.value == ClockAnswer()
        return KbsReply(released=(), policy_keys=(), date=NOW)

    session.guest.children = SimpleNamespace(run=run)
    request: Any = SimpleNamespace(transport=None, has_clock=has_clock)
    EventLoop().run(kbs_session._run_kbs_child(session.guest, request, session.guest, 60))
    assert settings == [NOW + 60] * has_clock


def ask_kbs_child(
    tee: Tee, *, attest_seconds: int = 1, phase_seconds: float = 1e6, max_seconds: float = 1e6
) -> tuple[KbsRequest, float]:
    """Return what the child is asked, and its deadline in seconds."""
    asked: list[tuple[Any, float]] = []

    async def run(
        _role: object, request: object, _reply: object, *, seconds: float, **_options: object
    ) -> KbsReply:
        asked.append((request, seconds))
        return KbsReply(released=(), policy_keys=(), date=0)

    async def answering(*_arguments: object) -> Any:
        return None  # nobody asks

    phase_time = PhaseTime()
    phase_time.begin(phase_seconds)
    configured = configured_on(tee, attest_seconds=attest_seconds)
    guest: Any = SimpleNamespace(children=SimpleNamespace(run=run), phase_time=phase_time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kbs_session, "answering", answering)
        EventLoop().run(
            request_resources(guest, configured, (), has_clock=False, max_seconds=max_seconds)
        )
    return asked[0]


@pytest.mark.parametrize(("tee", "sent"), [(Tee.SVSM, b"{}"), (Tee.TPM, b"")])
def test_parameters_of_the_platform_go_into_the_request(tee: Tee, sent: bytes) -> None:
    request, _ = ask_kbs_child(tee)
    assert request.parameters == sent


@pytest.mark.parametrize(
    ("times", "patience", "seconds"),
    [
        ({"attest_seconds": 600}, 540, 600),
        ({"attest_seconds": 60}, 54, 60),
        ({"attest_seconds": 1}, 1, 1),
        ({"attest_seconds": 600, "max_seconds": 30}, 27, 30),
    ],
)
def test_kbs_child_gives_up_before_it_is_given_up(
    times: dict[str, int], patience: int, seconds: int
) -> None:
    """So that the owner's log has what the last attempt failed with."""
    request, max_seconds = ask_kbs_child(Tee.TPM, **times)
    assert (request.seconds, max_seconds) == (patience, seconds)


def test_kbs_that_a_later_phase_asks_has_what_is_left_of_that() -> None:
    """UNLOCK has ten minutes for all its disks, and would end without a reason."""
    request, seconds = ask_kbs_child(Tee.TPM, attest_seconds=600, phase_seconds=200)
    assert 170 < request.seconds <= 180
    assert 190 < seconds <= 200
