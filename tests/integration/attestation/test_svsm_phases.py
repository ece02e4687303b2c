"""A guest below an SVSM from CONFIG to a resource: real children, a TPM emulator, the real KBS.

Processor and SVSM are stand-ins; what the kernel would show of a report is in files here. Needs
root and the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccinit.agent.guest import PhaseTime, VerifiersRequest
from ccinit.agent.jobs.messages.kbs import KbsReply
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.phases.kbs_session import request_resources
from ccinit.agent.phases.log_binding import bind_log, open_log
from ccinit.agent.platform.devices import run_on_platform
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Platform
from ccinit.attest.svsm import read_keys
from ccinit.errors import CcinitError
from ccinit.formats.evidence.tee import NO_REPORT_DATA, Tee
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.tcg.tpm_commands import TpmCommands
from ccinit.kernel.event_loop import EventLoop, Lock
from tests.fakes.platforms.snp import FakeSnp
from tests.fakes.platforms.svsm import VTPM, Svsm
from tests.fakes.platforms.swtpm import Swtpm
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.attestation.phases_world import WANTED, SealedLog, configured
from tests.integration.attestation.svsm_world import DIGEST, LAUNCH, booted, svsm_kbs
from tests.integration.kbs.harness import SECRET, Kbs

pytestmark = pytest.mark.usefixtures("as_root")

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    with svsm_kbs(tmp_path_factory.mktemp("owner")) as server:
        yield server


@pytest.fixture
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    tpm = booted(tmp_path_factory.mktemp("swtpm"), bound=False)
    yield tpm
    tpm.stop()


@dataclass(kw_only=True)
class Guest:
    """PID 1 of the guest, as far as its children go."""

    kbs: Kbs
    swtpm: Swtpm
    svsm: Svsm
    directory: Path

    def __post_init__(self) -> None:
        path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
        self.children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": path})
        self.platform = Platform(tee=Tee.SVSM, open_report=self.open_report)
        self.parameters = b""
        self.log = SealedLog()
        self.pid1 = cast(
            "Any",
            SimpleNamespace(
                children=self.children,
                figures=SimpleNamespace(evidence_made=0),
                verifiers_request=VerifiersRequest(),
                evidence_lock=Lock(),
                phase_time=PhaseTime(),
                log=self.log,
                loop=SimpleNamespace(start=lambda pace, _name: pace.close()),
            ),
        )

    @contextmanager
    def open_report(self, report_data: bytes) -> Iterator[Mapping[str, int]]:
        report, manifest = self.svsm.attest(VTPM, report_data.ljust(64, b"\0"))
        shown = {
            "provider": b"sev_guest\n",
            "generation": b"3\n",
            "generation_after": b"3\n",
            "outblob": report,
            "auxblob": b"",
            "manifestblob": manifest,
        }
        with ExitStack() as stack:
            fds = {"tpm": self.swtpm.connect()}
            stack.callback(os.close, fds["tpm"])
            for name, content in shown.items():
                (self.directory / name).write_bytes(content)
                fds[name] = os.open(self.directory / name, os.O_RDONLY)
                stack.callback(os.close, fds[name])
            yield fds

    def bind_document(self) -> BindReply:
        """CONFIG, as far as the TPM goes."""
        reply = EventLoop().run(
            run_on_platform(
                self.pid1,
                self.platform,
                Role.MEASURE,
                BindRequest(tee=Tee.SVSM, digest=DIGEST),
                BindReply,
                report_data=NO_REPORT_DATA,
                seconds=60,
            )
        )
        self.parameters = reply.parameters
        return reply

    def configured(self) -> Any:
        return configured(self.kbs, self.platform, parameters=self.parameters)

    def fetch(self) -> KbsReply:
        return EventLoop().run(request_resources(self.pid1, self.configured(), (WANTED,)))


@pytest.fixture
def guest(kbs: Kbs, swtpm: Swtpm, tmp_path: Path) -> Guest:
    with swtpm.open() as device:
        manifest = read_keys(device).ek
    svsm = Svsm(snp=FakeSnp().with_fields(measurement=LAUNCH), manifest=manifest)
    return Guest(kbs=kbs, swtpm=swtpm, svsm=svsm, directory=tmp_path)


def test_guest_is_bound_and_served_and_its_log_vouched_for(guest: Guest) -> None:
    bound = guest.bind_document()
    with guest.swtpm.open() as device:
        assert TpmCommands(device).read_pcrs((8,)) == (extend(bytes(32), DIGEST),)
    assert bound.tee is Tee.SVSM
    reply = guest.fetch()
    assert [released.data for released in reply.released] == [SECRET]
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["tee"], attest["decision"]) == ("svsm", "accepted")
    assert release["decision"] == "released"

    open_log(guest.pid1, guest.configured())
    EventLoop().run(bind_log(guest.pid1, guest.configured(), Phase.ATTEST))
    assert guest.log.vouched_document(guest.kbs, Tee.SVSM) == "shop"


def test_log_cannot_be_bound_before_the_kbs_has_asked(guest: Guest) -> None:
    guest.bind_document()
    open_log(guest.pid1, guest.configured())
    with pytest.raises(CcinitError) as refused:
        EventLoop().run(bind_log(guest.pid1, guest.configured(), Phase.ATTEST))
    assert refused.value.reason == "attest.request"


def test_guest_that_names_no_keys_gets_nothing(guest: Guest) -> None:
    bound = guest.bind_document()
    guest.parameters = b""
    with pytest.raises(CcinitError) as refused:
        guest.fetch()
    assert refused.value.reason == "kbs.attestation_error"
    assert "names no keys" in str(guest.kbs.audit()[-1]["reason"])
    guest.parameters = bound.parameters
    assert guest.fetch().released
