"""Evidence and binding of a Secure Execution guest, over the ultravisor's device."""

import hashlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from ccinit.agent.jobs import evidence, measure
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.jobs.messages.measurement import BindRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.evidence.se import encode_se_request, parse_se_evidence
from ccinit.formats.evidence.tee import Tee
from ccinit.values import replace
from tests.fakes.platforms.ultravisor import FD, Ultravisor
from tests.unit.guest_owner.kbs.se_values import se_request

REPORT_DATA = bytes(range(64))
DIGEST = hashlib.sha384(b"document").digest()
SENT = se_request()


def channel(fds: Mapping[str, int]) -> JobChannel:
    return cast("JobChannel", SimpleNamespace(fds=fds))


CHANNEL = channel({"uv": FD})
ASKED = EvidenceRequest(
    tee=Tee.SE, report_data=REPORT_DATA, initdata=DIGEST, verifiers_request=encode_se_request(SENT)
)


@pytest.fixture
def ultravisor(monkeypatch: pytest.MonkeyPatch) -> Ultravisor:
    machine = Ultravisor()
    monkeypatch.setattr("ccinit.kernel.uv.fcntl.ioctl", machine.ioctl)
    return machine


def reason_of(request: EvidenceRequest) -> str:
    with pytest.raises(CcinitError) as caught:
        evidence.run(request, CHANNEL)
    return caught.value.reason


def test_evidence_answers_the_request(ultravisor: Ultravisor) -> None:
    made = evidence.run(ASKED, CHANNEL).evidence
    parsed = parse_se_evidence(parse_json(made, "test", 1 << 20))
    assert parsed.user_data == REPORT_DATA + DIGEST
    assert ultravisor.asked == [REPORT_DATA + DIGEST]
    assert (parsed.sealed_key, parsed.sealed_nonce) == (SENT.sealed_key, SENT.sealed_nonce)
    opened = ultravisor.open(SENT.blob)
    assert opened is not None
    assert parsed.measurement == ultravisor.measure(*opened, parsed.user_data, parsed.additional)


def test_without_a_request_there_is_no_evidence(ultravisor: Ultravisor) -> None:
    assert reason_of(replace(ASKED, verifiers_request=b"")) == "attest.request"
    assert reason_of(replace(ASKED, verifiers_request=b"{}")) == "se_request.members"
    assert reason_of(replace(ASKED, initdata=b"")) == "se_user_data.length"
    assert reason_of(replace(ASKED, report_data=bytes(48))) == "se_user_data.length"
    assert not ultravisor.asked
    assert evidence.run(ASKED, CHANNEL)


def test_r17_ultravisor_that_refuses_ends_the_job(ultravisor: Ultravisor) -> None:
    ultravisor.refusal = (0x0100, 0)
    assert reason_of(ASKED) == "tee.io"


def test_document_is_bound_by_each_piece_of_evidence() -> None:
    reply = measure.run(BindRequest(tee=Tee.SE, digest=DIGEST), CHANNEL)
    assert reply.tee is Tee.SE
