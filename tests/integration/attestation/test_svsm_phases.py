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

from ccinit.agent.guest import VerifiersRequest
from ccinit.agent.jobs.messages import BindReply, BindRequest, KbsReply, Wanted
from ccinit.agent.phases.attestation import request_resources
from ccinit.agent.phases.log_binding import bind_log, open_log
from ccinit.agent.platform.devices import run_on_platform
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Platform
from ccinit.attest.svsm import read_keys
from ccinit.errors import CcinitError
from ccinit.formats.evidence.log_key import parse_log_evidence
from ccinit.formats.evidence.tee import NO_REPORT_DATA, Tee
from ccinit.formats.initdata.guest_config import (
    EnvelopePolicy,
    KbsConfig,
    KbsTransport,
    Limits,
    LogConfig,
)
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.sealed_log import BootId
from ccinit.kernel.event_loop import EventLoop, Turn
from guest_owner.kbs.store import Store
from guest_owner.kbs.verifiers.table import verify_log_evidence
from tests.fakes.measured_events import MeasuredEvents
from tests.fakes.snp import FakeSnp
from tests.fakes.svsm import VTPM, Svsm
from tests.fakes.swtpm import Swtpm
from tests.fakes.tpm_quote import extend
from tests.integration.attestation.svsm_world import DIGEST, LAUNCH, booted, svsm_kbs
from tests.integration.kbs.harness import DOCUMENT, SECRET, URI, Kbs

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
        self.pid1 = cast(
            "Any",
            SimpleNamespace(
                children=self.children,
                service=SimpleNamespace(figures=SimpleNamespace(evidence_made=0)),
                verifiers_request=VerifiersRequest(),
                evidence_turn=Turn(),
                log=self,
                loop=SimpleNamespace(start=lambda pace, _name: pace.close()),
            ),
        )

    @contextmanager
    def open_report(self, report_data: bytes) -> Iterator[Mapping[str, int]]:
        report, manifest = self.svsm.attest(VTPM, report_data.ljust(64, b"\0"))
        shown = {
            "provider": b"sev_guest\n",
            "generation": b"3\n",
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
        config = KbsConfig(
            url=self.kbs.url,
            ca_pem=(self.kbs.state / "ca.pem").read_text(),
            envelope=EnvelopePolicy.NONE,
            transport=KbsTransport.TCP,
            tee_key_algorithm=TeeKeyAlgorithm.P256,
        )
        return SimpleNamespace(
            config=SimpleNamespace(
                kbs=config, limits=Limits(attest_seconds=60), log=LogConfig(public_key=b"owner")
            ),
            platform=self.platform,
            measurement=MeasuredEvents(),
            document=DOCUMENT,
            parameters=self.parameters,
        )

    def fetch(self) -> KbsReply:
        wanted = Wanted(uri=parse_resource_uri("kbs:///" + URI), kind=EnvelopeKind.FILE)
        return EventLoop().run(request_resources(self.pid1, self.configured(), (wanted,)))

    # The sealed log, as far as its key is concerned.

    def arrange(self, *, capacity: int, batch_bytes: int) -> None:
        """Its sizes are of no concern."""

    def open(self, _owner_key: bytes, boot_id: BootId) -> bytes:
        self.boot_id = boot_id
        return b"k" * 32

    def bind(self, evidence: bytes) -> None:
        self.bound = evidence


@pytest.fixture
def guest(kbs: Kbs, swtpm: Swtpm, tmp_path: Path) -> Guest:
    with swtpm.open() as device:
        manifest = read_keys(device).ek
    svsm = Svsm(snp=FakeSnp().with_fields(measurement=LAUNCH), manifest=manifest)
    return Guest(kbs=kbs, swtpm=swtpm, svsm=svsm, directory=tmp_path)


def test_guest_is_bound_and_served_and_its_log_vouched_for(guest: Guest) -> None:
    bound = guest.bind_document()
    assert (bound.tee, bound.value) == (Tee.SVSM, extend(bytes(32), DIGEST))
    reply = guest.fetch()
    assert [released.data for released in reply.released] == [SECRET]
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["tee"], attest["decision"]) == ("svsm", "accepted")
    assert release["decision"] == "released"

    binding = open_log(guest.pid1, guest.configured())
    EventLoop().run(bind_log(guest.pid1, guest.configured(), binding))
    said = parse_log_evidence(guest.bound)
    assert said.tee == "svsm"
    appraised = verify_log_evidence(
        Tee.SVSM,
        said.evidence,
        boot_id=guest.boot_id,
        signing_key=b"k" * 32,
        references=Store(guest.kbs.state).read_references(),
    )
    assert appraised.initdata.name == "shop"


def test_log_cannot_be_bound_before_the_kbs_has_asked(guest: Guest) -> None:
    guest.bind_document()
    binding = open_log(guest.pid1, guest.configured())
    with pytest.raises(CcinitError) as refused:
        EventLoop().run(bind_log(guest.pid1, guest.configured(), binding))
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
