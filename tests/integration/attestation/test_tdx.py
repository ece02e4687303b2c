"""What is TDX's own on the way of `test_tees`: versions, registers, event logs.

test_tdx_oracle.py holds the same evidence against an independent verifier.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.agent.jobs.messages.evidence import EvidenceReply, EvidenceRequest
from ccinit.agent.platform.measurement import container_starts, image_pulled
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.evidence.tdx import parse_tdx_evidence
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import Algorithm, replay
from ccinit.kernel.event_loop import EventLoop
from ccinit.measure.event_log import EventLog
from ccinit.measure.register import EVENT_REGISTERS
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.fakes.platforms.tdx_quote import measurement
from tests.integration.attestation.tee_guests import TdxGuest, make_tdx_guest, running_tee_kbs
from tests.integration.kbs.harness import SECRET, Kbs

ROOT = Path(__file__).parents[3]
CHILDREN = Children(
    (sys.executable, "-m", "ccinit"),
    {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
)
MANIFEST = Digest("ab" * 32)
EVENTS = (
    image_pulled(f"registry.example/web@{MANIFEST}", MANIFEST),
    container_starts("web", MANIFEST),
)


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    with running_tee_kbs(tmp_path_factory.mktemp("owner")) as server:
        yield server


@pytest.fixture
def guest(kbs: Kbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TdxGuest:
    return make_tdx_guest(kbs, tmp_path / "CCEL", monkeypatch)


def measured(guest: TdxGuest, *events: AaelEvent) -> TdxGuest:
    """Let the guest measure events into RTMR 3."""
    row = EVENT_REGISTERS[Tee.TDX]
    log = EventLog(row.number, row.algorithm)
    extension = log.announce(events)
    log.settle(replay(extension.digests, row.algorithm, extension.before))
    guest.domain.rtmrs[3] = log.value
    return replace(guest, events=log.records)


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3)])
def test_guest_on_tdx_gets_its_resource(guest: TdxGuest, version: int, body_type: int) -> None:
    guest.domain.version, guest.domain.body_type = version, body_type
    assert guest.fetch() == SECRET
    attest, _ = guest.kbs.audit()[-2:]
    assert attest["td"] == {"mrtd": guest.domain.mrtd.hex()}
    assert attest["rtmr"] == {str(n): value.hex() for n, value in enumerate(guest.domain.rtmrs)}


@pytest.mark.usefixtures("as_root")
def test_evidence_is_made_by_a_child_without_rights(guest: TdxGuest, tmp_path: Path) -> None:
    """The real child under its own rights; plain files are read as the kernel's are."""
    data = ReportData(bytes(range(64)))
    files = {
        "provider": b"tdx_guest\n",
        "generation": b"1\n",
        "generation_after": b"1\n",
        "outblob": guest.domain.quote(data),
        "ccel": guest.ccel.read_bytes(),
    }
    with ExitStack() as stack:
        fds = {}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            fds[name] = stack.enter_context((tmp_path / name).open("rb")).fileno()
        request = EvidenceRequest(tee=Tee.TDX, report_data=data, events=guest.events)
        reply = EventLoop().run(
            CHILDREN.run(Role.EVIDENCE, request, EvidenceReply, seconds=30, fds=fds)
        )
    made = parse_tdx_evidence(json.loads(reply.evidence))
    assert made.quote == files["outblob"]
    assert made.event_log == FakeBoot().log


def test_guest_that_has_measured_events_gets_its_resource(guest: TdxGuest) -> None:
    running = measured(guest, *EVENTS)
    assert running.fetch() == SECRET
    rtmr3 = running.kbs.audit()[-2]["rtmr"]["3"]
    digests = tuple(event.digest(Algorithm.SHA384) for event in EVENTS)
    assert rtmr3 == replay(digests, Algorithm.SHA384).hex() != "00" * 48


def test_events_that_are_hidden_are_missed(guest: TdxGuest) -> None:
    assert replace(measured(guest, *EVENTS), events=b"").refused().startswith("rtmr.3: ")


def test_changed_kernel_is_refused_by_its_event(guest: TdxGuest) -> None:
    boot = FakeBoot()
    boot.events[4] = replace(boot.events[4], digest=measurement("another kernel"))
    guest.ccel.write_bytes(boot.log)
    guest.domain = boot.apply(guest.domain)
    assert guest.refused().startswith("rtmr.1: ")
    claims = guest.kbs.audit()[-1]["claims"]
    (differs,) = [claim for claim in claims if not claim["holds"]]
    assert "event 1: " in differs["got"]
    assert "(RTMR 1 of image-1)" in differs["got"]
