"""How ATTEST asks, what evidence is made of, and when the log is bound."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.guest import PhaseTime, VerifiersRequest
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.jobs.messages.kbs import (
    ClockAnswer,
    ClockQuestion,
    CounterStep,
    EvidenceAnswer,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Released,
)
from ccinit.agent.phases import attestation, kbs_session
from ccinit.agent.phases import evidence as evidence_module
from ccinit.agent.phases.kbs_session import request_resources
from ccinit.boot import clock
from ccinit.errors import ChildError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.rollback_counter import counter_uri
from ccinit.formats.kbs.tls_identity import VerifiedIdentity
from ccinit.kernel.event_loop import Event, EventLoop, Lock, TaskGroup
from ccinit.kernel.task import sleep
from ccinit.values import replace
from tests.unit.ccinit.agent.phases.attesting import DOCUMENT, configured_on

NOW = 1_800_000_000


class Session:
    """A KBS child that asks for evidence, and what the evidence child is asked for then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, plays_child: bool = True) -> None:
        self.date = 0
        self.requests: list[KbsRequest] = []
        self.released: tuple[Released, ...] = ()
        self.counters: tuple[int, ...] = ()
        self.made: list[EvidenceRequest] = []
        self.questions: list[EvidenceQuestion] = []
        self.done: list[str] = []
        self.guest: Any = SimpleNamespace(
            verifiers_request=VerifiersRequest(),
            evidence_lock=Lock(),
            clock_doubted=Event(),
            phase_time=PhaseTime(),
            event=self.done.append,
            figures=SimpleNamespace(evidence_made=0),
            teardown=SimpleNamespace(push=lambda *_step: None),
            log=SimpleNamespace(
                binding=b"binding",
                mix=lambda _psk: self.done.append("mix"),
                bind=lambda evidence: self.done.append(f"bind {evidence.decode()}"),
            ),
        )

        async def no_child(*_arguments: object) -> None:
            return None

        async def kbs_child(
            _guest: object, request: KbsRequest, answer: Any, _seconds: float
        ) -> KbsReply:
            self.requests.append(request)
            for question in self.questions:
                given = await answer(question)
                assert given.value == EvidenceAnswer(evidence=b"{}")
            return KbsReply(
                released=self.released, policy_keys=(), date=self.date, counters=self.counters
            )

        async def on_platform(*arguments: Any, **_options: object) -> object:
            self.made.append(arguments[3])
            return SimpleNamespace(evidence=b"{}")

        monkeypatch.setattr(evidence_module, "_prepare_evidence", no_child)
        if plays_child:
            monkeypatch.setattr(kbs_session, "_run_kbs_child", kbs_child)
        monkeypatch.setattr(evidence_module, "run_on_platform", on_platform)

    def run(self, tee: Tee, *questions: EvidenceQuestion) -> list[EvidenceRequest]:
        self.questions = list(questions)
        EventLoop().run(request_resources(self.guest, configured_on(tee), ()))
        return self.made


DATA = bytes(64)


def test_verifiers_request_and_the_document_reach_the_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(monkeypatch)
    (asked,) = session.run(Tee.SE, EvidenceQuestion(report_data=DATA, request=b"a request"))
    assert asked == EvidenceRequest(
        tee=Tee.SE,
        report_data=DATA,
        events=b"events",
        initdata=hashlib.sha384(DOCUMENT).digest(),
        request=b"a request",
    )
    assert session.guest.verifiers_request.text == b"a request"


def test_other_platforms_state_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = Session(monkeypatch).run(Tee.TPM, EvidenceQuestion(report_data=DATA))
    assert asked == EvidenceRequest(tee=Tee.TPM, report_data=DATA, events=b"events")


def test_evidence_is_made_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    session, steps = Session(monkeypatch), list[str]()

    async def on_platform(*arguments: Any, **_options: object) -> object:
        asked = arguments[3]
        steps.append(f"{asked.report_data.decode()}, answering {asked.request.decode()}")
        await sleep(0.05)
        steps.append("made")
        return SimpleNamespace(evidence=b"{}")

    async def owner_and_container() -> None:
        async with TaskGroup() as group:
            for name in ("first", "second"):
                session.guest.verifiers_request.text = f"request of the {name}".encode()
                asked = evidence_module.collect_evidence(
                    session.guest, configured_on(Tee.SE), name.encode()
                )
                group.start(asked, name)
                await sleep(0)

    monkeypatch.setattr(evidence_module, "run_on_platform", on_platform)
    EventLoop().run(owner_and_container())
    assert steps == [
        "first, answering request of the first",
        "made",
        "second, answering request of the second",
        "made",
    ]


def test_evidence_has_the_events_that_were_measured_before_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, configured = Session(monkeypatch), configured_on(Tee.TDX)

    async def measured_meanwhile() -> None:
        async with TaskGroup() as group, session.guest.evidence_lock:
            asked = evidence_module.collect_evidence(session.guest, configured, DATA)
            group.start(asked, "evidence")
            await sleep(0.01)
            configured.measurement.events = b"events and one more"

    EventLoop().run(measured_meanwhile())
    assert [asked.events for asked in session.made] == [b"events and one more"]


@pytest.mark.parametrize(
    ("tee", "request_"), [(Tee.SE, b""), (Tee.SE, bytes(48 * 1024 + 1)), (Tee.TPM, b"a request")]
)
def test_request_where_none_belongs_and_none_where_one_does_are_refused(
    tee: Tee, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(monkeypatch)
    with pytest.raises(ChildError) as refused:
        session.run(tee, EvidenceQuestion(report_data=DATA, request=request_))
    assert refused.value.reason == "child.protocol"
    assert not session.made


@pytest.mark.parametrize(
    ("tee", "done"),
    [(Tee.SE, ['bind {"evidence":{},"tee":"se"}', "mix"]), (Tee.TPM, ["mix"])],
)
def test_log_is_bound_by_the_kbss_request_where_it_takes_one(
    tee: Tee, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(monkeypatch)

    async def reply(guest: Any, _configured: object, wanted: Any, **_options: object) -> KbsReply:
        guest.verifiers_request.text = b"a request"
        released = tuple(Released(uri=one.uri, data=b"x", create=False) for one in wanted)
        return KbsReply(released=released, policy_keys=(), date=0)

    monkeypatch.setattr(attestation, "request_resources", reply)
    monkeypatch.setattr(attestation, "set_clock", lambda *_times: None)
    monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
    EventLoop().run(attestation.attest(session.guest, configured_on(tee)))
    assert session.done[:-1] == done
    assert [asked.report_data for asked in session.made] == ([b"binding"] if done[1:] else [])


def test_log_says_when_the_boot_was_once_it_may_have_text(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(monkeypatch)

    async def reply(_guest: Any, _configured: object, wanted: Any, **_options: object) -> KbsReply:
        released = tuple(Released(uri=one.uri, data=b"x", create=False) for one in wanted)
        return KbsReply(released=released, policy_keys=(), date=NOW)

    monkeypatch.setattr(attestation, "request_resources", reply)
    monkeypatch.setattr(attestation, "set_clock", lambda *_times: session.done.append("set"))
    monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
    EventLoop().run(attestation.attest(session.guest, configured_on(Tee.TPM)))
    assert session.done == ["set", "mix", "clock: set to 2027-01-15T08:00:00Z"]


def test_only_the_boots_own_handshake_looks_at_no_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked = Session(monkeypatch), list[object]()
    session.run(Tee.TPM)
    assert session.requests[0].has_clock

    async def reply(_guest: Any, _configured: object, wanted: Any, **options: object) -> KbsReply:
        asked.append(options.get("has_clock"))
        released = tuple(Released(uri=one.uri, data=b"x", create=False) for one in wanted)
        return KbsReply(released=released, policy_keys=(), date=0)

    monkeypatch.setattr(attestation, "request_resources", reply)
    monkeypatch.setattr(kbs_session, "request_resources", reply)
    monkeypatch.setattr(attestation, "set_clock", lambda *_times: asked.append("set"))
    monkeypatch.setattr(attestation, "read_build_time", lambda: 0)
    configured = configured_on(Tee.TPM)
    EventLoop().run(attestation.attest(session.guest, configured))
    EventLoop().run(kbs_session.fetch_grants(session.guest, configured, ()))
    EventLoop().run(kbs_session.request_token(session.guest, configured))
    assert asked == [False, "set", None, None]


URI = parse_resource_uri("kbs:///ccinit/demo/tls-identity")
OTHER = parse_resource_uri("kbs:///ccinit/demo/log-psk")
COUNTER = counter_uri("demo", "data")
LOOKED_AT = Released(
    uri=URI,
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
