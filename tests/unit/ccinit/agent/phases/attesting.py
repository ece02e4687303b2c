"""What ATTEST looks at of a configuration, on any platform, and a KBS child that asks questions."""

from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.guest import PhaseTime, VerifiersRequest
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.jobs.messages.kbs import (
    EvidenceAnswer,
    EvidenceQuestion,
    KbsReply,
    KbsRequest,
    Released,
)
from ccinit.agent.phases import evidence, kbs_session
from ccinit.attest.detect import Platform
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import KbsTransport
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.kernel.event_loop import Event, EventLoop, Lock
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.platforms.measured_events import MeasuredEvents

DOCUMENT = b"document"


def configured_on(
    tee: Tee = Tee.TPM,
    *,
    transport: KbsTransport = KbsTransport.TCP,
    attest_seconds: int = 10,
    pod: str = FULL_POD,
) -> Any:
    kbs = SimpleNamespace(
        url="", ca_pem="", transport=transport, envelope=None, tee_key_algorithm=None, passport=None
    )
    return SimpleNamespace(
        platform=Platform(tee=tee, devices=("nvidia",)),
        document=DOCUMENT,
        measurement=MeasuredEvents(b"events"),
        manifest=parse_pod_manifest(pod),
        config=SimpleNamespace(
            owner=None, kbs=kbs, limits=SimpleNamespace(attest_seconds=attest_seconds)
        ),
        parameters=b"{}",
    )


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

        monkeypatch.setattr(evidence, "_prepare_evidence", no_child)
        if plays_child:
            monkeypatch.setattr(kbs_session, "_run_kbs_child", kbs_child)
        monkeypatch.setattr(evidence, "run_on_platform", on_platform)

    def run(self, tee: Tee, *questions: EvidenceQuestion) -> list[EvidenceRequest]:
        self.questions = list(questions)
        EventLoop().run(kbs_session.request_resources(self.guest, configured_on(tee), ()))
        return self.made
