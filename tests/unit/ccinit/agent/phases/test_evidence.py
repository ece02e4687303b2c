"""What evidence is made of, and that it is made one piece after another."""

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.jobs.messages.kbs import (
    EvidenceQuestion,
)
from ccinit.agent.phases import evidence as evidence_module
from ccinit.errors import ChildError
from ccinit.formats.evidence.tee import Tee
from ccinit.kernel.event_loop import EventLoop, TaskGroup
from ccinit.kernel.task import sleep
from tests.unit.ccinit.agent.phases.attesting import DOCUMENT, Session, configured_on

DATA = bytes(64)


def test_verifiers_request_and_the_document_reach_the_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(monkeypatch)
    (asked,) = session.run(
        Tee.SE, EvidenceQuestion(report_data=DATA, verifiers_request=b"a request")
    )
    assert asked == EvidenceRequest(
        tee=Tee.SE,
        report_data=DATA,
        events=b"events",
        initdata=hashlib.sha384(DOCUMENT).digest(),
        verifiers_request=b"a request",
    )
    assert session.guest.verifiers_request.text == b"a request"


def test_other_platforms_state_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = Session(monkeypatch).run(Tee.TPM, EvidenceQuestion(report_data=DATA))
    assert asked == EvidenceRequest(tee=Tee.TPM, report_data=DATA, events=b"events")


def test_evidence_is_made_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    session, steps = Session(monkeypatch), list[str]()

    async def on_platform(*arguments: Any, **_options: object) -> object:
        asked = arguments[3]
        steps.append(f"{asked.report_data.decode()}, answering {asked.verifiers_request.decode()}")
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
        session.run(tee, EvidenceQuestion(report_data=DATA, verifiers_request=request_))
    assert refused.value.reason == "child.protocol"
    assert not session.made
