"""The whole way of Secure Execution: a request in the nonce, the ultravisor, the real verifier.

The machine and the kernel's interface to it are a stand-in (tests/fakes/platforms/ultravisor.py);
requests, measurements and everything behind them are as on hardware.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from ccinit.agent.jobs.evidence import se_attester
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.initdata.document import document_digest
from guest_owner.kbs.references.values import Profile, encode_reference_set
from tests.fakes.platforms.ultravisor import FD, HEADER, Ultravisor, host_key_pem
from tests.integration.attestation.asked_guest import fetch_on_request
from tests.integration.kbs.harness import (
    DOCUMENT,
    SECRET,
    Kbs,
    make_state,
    refusal_of_another_log_key,
    run,
    running_kbs,
)
from tests.unit.guest_owner.kbs.se_values import se_image


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    root = tmp_path_factory.mktemp("owner")
    state = make_state(root)
    (root / "machine.pem").write_bytes(host_key_pem())
    run("register", "root", "--platform", "se", "--state", state, root / "machine.pem")
    for image in (se_image(), se_image("se-test", Profile.TEST)):
        (root / "image.json").write_bytes(encode_reference_set(image))
        run("register", "reference", "--state", state, root / "image.json")
    with running_kbs(state) as server:
        yield server


@dataclass
class Guest:
    """One guest on a machine of IBM's."""

    kbs: Kbs
    machine: Ultravisor
    init_data: bytes = DOCUMENT
    stated: bytes = DOCUMENT
    request: bytes = b""

    def answer(self, data: ReportData, request: bytes) -> JsonValue:
        self.request = request
        asked = EvidenceRequest(
            tee=Tee.SE,
            report_data=data,
            initdata=document_digest(self.stated, "sha384"),
            verifiers_request=request,
        )
        return se_attester({"uv": FD}, asked).collect_evidence(data)

    def fetch(self) -> bytes:
        init_data = self.init_data.decode()
        return fetch_on_request(self.kbs, Tee.SE, self.answer, init_data=init_data)


@pytest.fixture
def guest(kbs: Kbs, monkeypatch: pytest.MonkeyPatch) -> Guest:
    guest = Guest(kbs, Ultravisor())

    def ioctl(fd: int, number: int, argument: bytearray) -> int:
        return guest.machine.ioctl(fd, number, argument)  # a test may change the machine

    monkeypatch.setattr("ccinit.kernel.uv.fcntl.ioctl", ioctl)
    return guest


def refused_as(guest: Guest) -> str:
    with pytest.raises(CcinitError) as refused:
        guest.fetch()
    assert refused.value.reason == "kbs.attestation_error"
    return str(guest.kbs.audit()[-1]["reason"])


def test_guest_gets_its_resource(guest: Guest) -> None:
    assert guest.fetch() == SECRET
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["event"], attest["tee"], attest["decision"]) == ("attest", "se", "accepted")
    assert (attest["reference"], attest["profile"]) == ("se-image", "prod")
    assert attest["se"]["tag"] == HEADER["tag"].hex()
    assert (release["decision"], release["tee"]) == ("released", "se")


def test_every_handshake_has_a_request_of_its_own(guest: Guest) -> None:
    guest.fetch()
    first = guest.request
    guest.fetch()
    assert guest.request != first


def test_answer_to_an_earlier_request_still_has_to_carry_this_handshake(guest: Guest) -> None:
    guest.fetch()
    earlier, honest = guest.request, guest.answer
    guest.answer = lambda data, request: honest(data, earlier)  # type: ignore[method-assign]  # noqa: ARG005
    assert guest.fetch() == SECRET  # what makes it fresh is the report data
    stale = honest(ReportData(bytes(64)), earlier)
    guest.answer = lambda data, request: stale  # type: ignore[method-assign]  # noqa: ARG005
    assert refused_as(guest).startswith("se.report_data: ")


def test_image_that_is_not_registered_is_refused(guest: Guest) -> None:
    guest.machine = Ultravisor(header={**HEADER, "pld": b"x" * 64})
    assert refused_as(guest).startswith("se.measurement: ")
    guest.machine = Ultravisor()
    assert guest.fetch() == SECRET


def test_guest_on_another_machine_has_no_answer(guest: Guest) -> None:
    guest.machine = Ultravisor(machine=1)
    with pytest.raises(CcinitError) as refused:
        guest.fetch()
    assert refused.value.reason == "tee.io"


def test_document_other_than_the_stated_one_is_refused(guest: Guest) -> None:
    other = DOCUMENT + b"\n"
    for changed in (replace(guest, init_data=other), replace(guest, stated=other)):
        assert refused_as(changed).startswith("se.initdata: ")
    assert refused_as(replace(guest, init_data=other, stated=other)).startswith("initdata.digest: ")
    assert guest.fetch() == SECRET


def test_test_image_gets_nothing_that_production_gets(guest: Guest) -> None:
    guest.machine = Ultravisor(header={**HEADER, "tag": b"se-test".ljust(16)})
    with pytest.raises(CcinitError) as refused:
        guest.fetch()
    assert refused.value.reason == "kbs.policy_deny"


def test_kbs_without_a_machine_says_so(tmp_path: Path, guest: Guest) -> None:
    with running_kbs(make_state(tmp_path)) as empty:
        with pytest.raises(CcinitError) as refused:
            replace(guest, kbs=empty).fetch()
        assert refused.value.reason == "kbs.attestation_error"
        assert "no machine is registered" in str(empty.audit()[-1]["reason"])


def test_sealed_logs_key_is_bound_by_the_kbss_request(guest: Guest) -> None:
    guest.fetch()
    answer = partial(guest.answer, request=guest.request)
    assert refusal_of_another_log_key(guest.kbs, Tee.SE, answer) == "se.report_data"
