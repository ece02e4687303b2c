"""The whole way of TDX: quote through configfs-tsm, handshake over TLS, the real verifier.

The machine and the kernel's interface to it are stand-ins (tests/fakes/tdx_quote.py, tdx_boot.py,
configfs_tsm.py); quotes, certificates, event logs and everything behind them are as on hardware
(test_tdx_oracle.py holds them against an independent verifier).
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ccinit.agent.children import Children
from ccinit.agent.jobs.evidence import tdx_attester
from ccinit.agent.measurement import container_starts, image_pulled
from ccinit.agent.messages import EvidenceReply, EvidenceRequest
from ccinit.agent.roles import Role
from ccinit.attest.client import KbsClient
from ccinit.errors import CcinitError
from ccinit.formats.aael import AaelEvent
from ccinit.formats.digest import Digest
from ccinit.formats.event_log import Algorithm, replay
from ccinit.formats.resource_uri import parse_resource_uri
from ccinit.formats.sealed_log import parse_boot_id, report_data
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tdx_evidence import parse_tdx_evidence
from ccinit.formats.tee import ReportData, Tee
from ccinit.kernel import tsm
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.tsm import open_report_entry
from ccinit.measure.event_log import EventLog
from ccinit.measure.register import EVENT_REGISTERS
from ccinit.net.http import HttpClient
from ccinit.net.tls import pinned_context
from guest_owner.kbs.references import encode_reference_set
from guest_owner.kbs.store import Store
from guest_owner.kbs.verifiers.table import verify_log_evidence
from tests.fakes.configfs_tsm import DIRECTORY, FakeConfigfs
from tests.fakes.tdx_boot import FakeBoot
from tests.fakes.tdx_quote import FakePck, FakeTdx, measurement
from tests.integration.kbs_harness import DOCUMENT, SECRET, URI, Kbs, make_state, run, running_kbs
from tests.unit.guest_owner.kbs.verifiers.tdx_values import REQUIREMENTS_TOML, tdx_reference

ROOT = Path(__file__).parents[2]
CHILDREN = Children(
    (sys.executable, "-m", "ccinit"),
    {"PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))},
)
TDX_DOCUMENT = DOCUMENT.replace(b"sha256", b"sha384")
MANIFEST = Digest("ab" * 32)
EVENTS = (
    image_pulled(f"registry.example/web@{MANIFEST}", MANIFEST),
    container_starts("web", MANIFEST),
)


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    root = tmp_path_factory.mktemp("owner")
    state = make_state(root)
    register(state, root)
    with running_kbs(state) as server:
        yield server


def register(state: Path, root: Path) -> None:
    """With the owner's own commands."""
    (root / "intel.pem").write_bytes(FakePck().root_certificate.public_bytes(Encoding.PEM))
    (root / "tdx.toml").write_text(REQUIREMENTS_TOML)
    (root / "image.json").write_bytes(encode_reference_set(tdx_reference()))
    platform = ("--platform", "tdx", "--state", state)
    run("register", "root", *platform, root / "intel.pem", "--name", "intel")
    run("register", "requirements", *platform, root / "tdx.toml")
    run("register", "reference", "--state", state, root / "image.json")
    Store(state).add_initdata("shop-tdx", TDX_DOCUMENT)
    run("policy", "allow", "--state", state, "ccinit/shop/*", "--initdata", "shop-tdx")


@dataclass
class Guest:
    """One guest in a trust domain."""

    kbs: Kbs
    configfs: FakeConfigfs
    ccel: Path
    domain: FakeTdx
    events: bytes = b""
    init_data: str = field(default=TDX_DOCUMENT.decode())

    def evidence_for(self, data: ReportData) -> JsonValue:
        self.configfs.make_report = lambda inblob, _level: (self.domain.quote(inblob), b"")
        firmware = os.open(self.ccel, os.O_RDONLY)
        try:
            with open_report_entry(data, DIRECTORY) as fds:
                attester = tdx_attester({**fds, "ccel": firmware}, self.events)
                return attester.collect_evidence(data).value
        finally:
            os.close(firmware)

    def fetch(self, uri: str = "kbs:///" + URI) -> bytes:
        roots = (self.kbs.state / "ca.pem").read_text()
        with HttpClient(pinned_context(roots, check_time=False)) as transport:
            client = KbsClient(
                url=self.kbs.url,
                transport=transport,
                tee=Tee.TDX,
                evidence_for=self.evidence_for,
                init_data=self.init_data,
            )
            return client.get_resource(parse_resource_uri(uri)).body.reveal()

    def refused(self) -> str:
        """Fetch, which must fail; return what the owner reads about it."""
        with pytest.raises(CcinitError) as refused:
            self.fetch()
        assert refused.value.reason == "kbs.attestation_error"
        record = self.kbs.audit()[-1]
        assert record["decision"] == "refused"
        return str(record["reason"])


@pytest.fixture
def guest(kbs: Kbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guest:
    configfs = FakeConfigfs(
        make_report=lambda _inblob, _level: (b"", b""),
        provider="tdx_guest",
        floor=None,
        has_auxblob=False,
    )
    monkeypatch.setattr(tsm, "os", configfs)
    boot, ccel = FakeBoot(), tmp_path / "CCEL"
    ccel.write_bytes(boot.log + bytes(50_000))
    domain = boot.apply(FakeTdx(mrconfigid=hashlib.sha384(TDX_DOCUMENT).digest()))
    return Guest(kbs, configfs, ccel, domain)


def measured(guest: Guest, *events: AaelEvent) -> Guest:
    """Let the guest measure events into RTMR 3."""
    row = EVENT_REGISTERS[Tee.TDX]
    log = EventLog(row.number, row.algorithm)
    extension = log.announce(events)
    log.settle(replay(extension.digests, row.algorithm, extension.before))
    guest.domain.rtmrs[3] = log.value
    return replace(guest, events=log.records)


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3)])
def test_guest_on_tdx_gets_its_resource(guest: Guest, version: int, body_type: int) -> None:
    guest.domain.version, guest.domain.body_type = version, body_type
    assert guest.fetch() == SECRET
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["event"], attest["tee"], attest["decision"]) == ("attest", "tdx", "accepted")
    assert (attest["reference"], attest["profile"]) == ("image-1", "prod")
    assert attest["td"] == {"mrtd": guest.domain.mrtd.hex()}
    assert attest["rtmr"] == {str(n): value.hex() for n, value in enumerate(guest.domain.rtmrs)}
    assert (release["decision"], release["tee"]) == ("released", "tdx")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")
def test_evidence_is_made_by_a_child_without_rights(guest: Guest, tmp_path: Path) -> None:
    """The real child under its own rights; plain files are read as the kernel's are."""
    data = ReportData(bytes(range(64)))
    files = {
        "provider": b"tdx_guest\n",
        "generation": b"1\n",
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


def test_guest_that_has_measured_events_gets_its_resource(guest: Guest) -> None:
    running = measured(guest, *EVENTS)
    assert running.fetch() == SECRET
    rtmr3 = running.kbs.audit()[-2]["rtmr"]["3"]
    digests = tuple(event.digest(Algorithm.SHA384) for event in EVENTS)
    assert rtmr3 == replay(digests, Algorithm.SHA384).hex() != "00" * 48


def test_events_that_are_hidden_are_missed(guest: Guest) -> None:
    assert replace(measured(guest, *EVENTS), events=b"").refused().startswith("rtmr.3: ")


@pytest.mark.parametrize(
    ("field_name", "value", "name"),
    [
        ("mrtd", measurement("another firmware"), "td.mrtd"),
        ("mrconfigid", measurement("another document"), "td.mrconfigid"),
        ("mrconfigid", bytes(48), "td.mrconfigid"),
        ("td_attributes", 1 << 28 | 1, "td.debug"),
        ("xfam", 7, "td.xfam"),
        ("mrseam", measurement("another module"), "td.mrseam"),
        ("tee_tcb_svn", bytes(16), "td.tee_tcb_svn"),
        ("qe_svn", 0, "qe.isv_svn"),
        ("mrowner", measurement("owner"), "td.mrowner"),
        ("quote_signer", "somebody else", "quote.signature"),
        ("pck", FakePck(pce_svn=1), "pck.pce_svn"),
        ("pck", FakePck(root="the host's own"), "pck.chain"),
    ],
)
def test_changed_guest_is_refused_by_name(
    guest: Guest, field_name: str, value: object, name: str
) -> None:
    changed = replace(guest, domain=replace(guest.domain, **{field_name: value}))
    assert changed.refused().startswith(f"{name}: evidence refused: {name}")
    assert guest.fetch() == SECRET


def test_changed_kernel_is_refused_by_its_event(guest: Guest) -> None:
    boot = FakeBoot()
    boot.events[4] = replace(boot.events[4], digest=measurement("another kernel"))
    guest.ccel.write_bytes(boot.log)
    guest.domain = boot.apply(guest.domain)
    assert guest.refused().startswith("rtmr.1: ")
    claims = guest.kbs.audit()[-1]["claims"]
    (differs,) = [claim for claim in claims if not claim["holds"]]
    assert "event 1: " in differs["got"]
    assert "(RTMR 1 of image-1)" in differs["got"]


def test_document_of_the_host_is_refused(guest: Guest) -> None:
    changed = replace(guest, init_data=TDX_DOCUMENT.decode() + "\n")
    assert changed.refused().startswith("td.mrconfigid: ")


def test_sealed_logs_key_is_bound_by_the_same_verifier(guest: Guest) -> None:
    boot_id, signing_key = parse_boot_id(bytes(range(16))), b"k" * 32
    evidence = guest.evidence_for(ReportData(report_data(boot_id, signing_key)))
    references = Store(guest.kbs.state).read_references()
    appraised = verify_log_evidence(
        Tee.TDX, evidence, boot_id=boot_id, signing_key=signing_key, references=references
    )
    assert appraised.initdata.name == "shop-tdx"
    with pytest.raises(CcinitError) as refused:
        verify_log_evidence(
            Tee.TDX, evidence, boot_id=boot_id, signing_key=b"j" * 32, references=references
        )
    assert refused.value.reason == "quote.report_data"
