"""A guest on Azure from CONFIG to a resource: real children, a real TPM emulator, the real KBS.

The paravisor, its metadata service and the hardware below are stand-ins
(tests/fakes/platforms/azure.py and azure_metadata.py); reports, certificates and everything behind
them are as on hardware. Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools).
"""

import hashlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.agent.guest import PhaseTime
from ccinit.agent.jobs.messages.kbs import KbsReply
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.phases import evidence
from ccinit.agent.phases.kbs_session import request_resources
from ccinit.agent.phases.log_binding import bind_log, open_log
from ccinit.agent.platform import devices
from ccinit.agent.platform.devices import run_on_platform
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Platform
from ccinit.errors import CcinitError
from ccinit.formats.evidence.tee import NO_REPORT_DATA, Tee
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.tcg.tpm2 import ALL_SHA256_PCRS
from ccinit.formats.tcg.tpm_commands import TpmCommands
from ccinit.kernel.event_loop import EventLoop, Lock
from guest_owner.kbs.references.measurements.image import Boot, TpmMeasurements
from guest_owner.kbs.references.values import Profile, ReferenceSet, encode_reference_set
from tests.fakes.platforms.azure import (
    AK_HANDLE,
    PARAVISOR,
    REPORT_INDEX,
    SNP,
    TDX,
    USER_DATA_INDEX,
    Paravisor,
    encode_report,
)
from tests.fakes.platforms.azure_metadata import Metadata, running_metadata
from tests.fakes.platforms.snp import Chain, FakeSnp, der_of
from tests.fakes.platforms.swtpm import Swtpm
from tests.fakes.platforms.tdx_device import td_report
from tests.fakes.platforms.tdx_quote import FakePck, FakeTdx
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.attestation.phases_world import WANTED, SealedLog, configured
from tests.integration.kbs.harness import DOCUMENT, SECRET, Kbs, make_state, run, running_kbs
from tests.unit.guest_owner.kbs.verifiers.azure_values import AZURE_REQUIREMENTS

pytestmark = pytest.mark.usefixtures("as_root")

ROOT = Path(__file__).parents[3]
DIGEST = hashlib.sha256(DOCUMENT).digest()
TEES = {SNP: Tee.AZ_SNP_VTPM, TDX: Tee.AZ_TDX_VTPM}
BOTH = pytest.mark.parametrize("kind", [SNP, TDX], ids=["snp", "tdx"])
EVENTS = {index: hashlib.sha256(b"boot %d" % index).digest() for index in (4, 9, 11)}
IMAGE = ReferenceSet(
    name="azure-image",
    profile=Profile.PROD,
    measured=TpmMeasurements(
        boot=Boot.UKI, pcr={index: extend(bytes(32), event) for index, event in EVENTS.items()}
    ),
)
WRITE_USER_DATA = struct.pack(">I", USER_DATA_INDEX)


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    root = tmp_path_factory.mktemp("owner")
    state = make_state(root)
    (root / "az-snp-vtpm.pem").write_bytes(Chain().pem)
    (root / "az-tdx-vtpm.pem").write_bytes(FakePck().root_certificate.public_bytes(Encoding.PEM))
    (root / "image.json").write_bytes(encode_reference_set(IMAGE))
    run("register", "reference", "--state", state, root / "image.json")
    for tee, text in AZURE_REQUIREMENTS.items():
        (root / "demanded.toml").write_text(text)
        platform = ("--platform", tee, "--state", state)
        run("register", "root", *platform, root / f"{tee}.pem", "--name", "vendor")
        run("register", "requirements", *platform, root / "demanded.toml")
    with running_kbs(state) as server:
        yield server


@pytest.fixture
def swtpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    tpm = Swtpm(tmp_path_factory.mktemp("swtpm"))
    try:
        tpm.provision(AK_HANDLE)
        with tpm.open() as device:
            for index, event in EVENTS.items():
                TpmCommands(device).extend_pcr(index, event)
        yield tpm
    finally:
        tpm.stop()


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with running_metadata() as running:
        yield running


@dataclass(kw_only=True)
class Guest:
    """A guest whose TPM is a paravisor's: between its children and the emulator there is a thread
    that renews the report a moment after user data were written."""

    kind: int
    kbs: Kbs
    swtpm: Swtpm
    metadata: Metadata
    hardware: FakeSnp | FakeTdx

    @contextmanager
    def open(self, _platform: object, _report_data: bytes) -> Iterator[Mapping[str, int]]:
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(ours,), daemon=True).start()
        with theirs:
            yield {"tpm": theirs.fileno()}

    def _serve(self, child: socket.socket) -> None:
        with suppress(OSError), child, socket.socket(fileno=self.swtpm.connect()) as tpm:

            def transmit(command: bytes) -> bytes:
                tpm.sendall(command)
                return tpm.recv(8192)

            stale = False
            while command := child.recv(8192):
                child.sendall(transmit(command))
                if stale:
                    self.paravisor(transmit).renew()
                stale = command[6:10] == b"\0\0\x01\x37" and command[14:18] == WRITE_USER_DATA

    def paravisor(self, transmit: Any) -> Paravisor:
        def hardware(data: bytes) -> bytes:
            if isinstance(self.hardware, FakeSnp):
                return self.hardware.report(data)
            return td_report(self.hardware, data)

        return Paravisor(transmit, self.kind, self.swtpm.ak_modulus, hardware)

    def has_a_report(self) -> None:
        """One from before this boot, as the index always has."""
        size = str(len(encode_report(self.kind, b"", b"")) + 800)  # swtpm's limit is 2048
        self.swtpm.tools(
            *("tpm2", "nvdefine", hex(REPORT_INDEX), "-C", "o", "-s", size),
            *("-a", "ownerread|ownerwrite"),
        )
        with self.swtpm.open() as device:
            TpmCommands(device).define_nv(USER_DATA_INDEX, 64)
            TpmCommands(device).write_nv(USER_DATA_INDEX, bytes(64))
            self.paravisor(device.transmit).renew()

    @property
    def children(self) -> Children:
        path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
        return Children(
            (sys.executable, "-m", "tests.integration.attestation.endorse_program"),
            {"PYTHONPATH": path, "METADATA_HOST": self.metadata.host},
        )

    def bind(self) -> BindReply:
        """CONFIG, as far as the TPM goes."""
        guest = cast("Any", SimpleNamespace(children=self.children))
        return EventLoop().run(
            run_on_platform(
                guest,
                Platform(tee=Tee.TPM),
                Role.MEASURE,
                BindRequest(tee=Tee.TPM, digest=DIGEST),
                BindReply,
                report_data=NO_REPORT_DATA,
                seconds=30,
            )
        )

    def configured(self) -> Any:
        return configured(self.kbs, Platform(tee=TEES[self.kind]))

    def fetch(self) -> KbsReply:
        figures = SimpleNamespace(evidence_made=0)
        guest = cast(
            "Any",
            SimpleNamespace(
                children=self.children,
                figures=figures,
                evidence_lock=Lock(),
                phase_time=PhaseTime(),
            ),
        )
        return EventLoop().run(request_resources(guest, self.configured(), (WANTED,)))


@pytest.fixture
def guest(
    kind: int, kbs: Kbs, swtpm: Swtpm, metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> Guest:
    hardware: FakeSnp | FakeTdx
    if kind == SNP:
        hardware = FakeSnp().with_fields(measurement=PARAVISOR)
        metadata.vcek = der_of(hardware.chain.leaf)
    else:
        hardware = FakeTdx(mrtd=PARAVISOR)
        metadata.quote = lambda report: hardware.quote(report[128:192])
    guest = Guest(kind=kind, kbs=kbs, swtpm=swtpm, metadata=metadata, hardware=hardware)
    guest.has_a_report()
    for module in (evidence, devices):
        monkeypatch.setattr(module, "open_platform", guest.open)
    return guest


@BOTH
def test_guest_is_named_by_its_tpm_bound_and_served(guest: Guest, kind: int) -> None:
    bound = guest.bind()
    assert bound.tee is TEES[kind]
    reply = guest.fetch()
    assert [released.data for released in reply.released] == [SECRET]
    assert len(guest.metadata.asked) == 1
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["tee"], attest["decision"]) == (TEES[kind], "accepted")
    assert (attest["reference"], release["decision"]) == ("azure-image", "released")
    assert attest["pcr"]["8"] == extend(bytes(32), DIGEST).hex()


@BOTH
def test_guest_that_bound_nothing_gets_nothing(guest: Guest) -> None:
    with pytest.raises(CcinitError) as refused:
        guest.fetch()
    assert refused.value.reason == "kbs.attestation_error"
    assert guest.kbs.audit()[-1]["reason"].startswith("pcr.8: evidence refused: pcr.8")
    guest.bind()
    assert guest.fetch().released


@BOTH
def test_service_that_endorses_nothing_ends_the_attestation(guest: Guest) -> None:
    guest.bind()
    guest.metadata.broken = True
    before = len(guest.kbs.audit())
    with pytest.raises(CcinitError) as refused:
        guest.fetch()
    assert refused.value.reason == {SNP: "azure.vcek", TDX: "azure.metadata"}[guest.kind]
    assert all(record["event"] != "attest" for record in guest.kbs.audit()[before:])


@BOTH
def test_logs_key_is_bound_once_there_is_a_network(guest: Guest, kind: int) -> None:
    guest.bind()
    log, configured = SealedLog(), guest.configured()
    figures = SimpleNamespace(evidence_made=0)
    loop = SimpleNamespace(start=lambda pace, _name: pace.close())
    host = cast(
        "Any",
        SimpleNamespace(
            children=guest.children, figures=figures, log=log, loop=loop, evidence_lock=Lock()
        ),
    )
    open_log(host, configured)
    EventLoop().run(bind_log(host, configured, Phase.NET))
    assert log.vouched_document(guest.kbs, TEES[kind]) == "shop"


@BOTH
def test_report_that_cannot_be_read_binds_nothing(guest: Guest) -> None:
    with guest.swtpm.open() as device:
        Paravisor(device.transmit, 3, guest.swtpm.ak_modulus, lambda _data: b"").renew()
        before = TpmCommands(device).read_pcrs(ALL_SHA256_PCRS.pcrs)
    with pytest.raises(CcinitError) as refused:
        guest.bind()
    assert refused.value.reason == "hcl.report_type"
    with guest.swtpm.open() as device:
        assert TpmCommands(device).read_pcrs(ALL_SHA256_PCRS.pcrs) == before
