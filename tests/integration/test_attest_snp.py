"""The whole way of SEV-SNP: report through configfs-tsm, handshake over TLS, the real verifier.

The secure processor and the kernel's interface to it are stand-ins (tests/fakes/snp.py,
tests/fakes/configfs_tsm.py); reports, certificates and everything behind them are as on hardware.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ccinit.agent.jobs.evidence import snp_attester
from ccinit.attest.client import KbsClient
from ccinit.errors import CcinitError
from ccinit.formats.resource_uri import parse_resource_uri
from ccinit.formats.sealed_log import parse_boot_id, report_data
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tee import ReportData, Tee
from ccinit.kernel import tsm
from ccinit.kernel.tsm import open_report_entry
from ccinit.net.http import HttpClient
from ccinit.net.tls import pinned_context
from guest_owner.kbs.references import Profile, encode_reference_set
from guest_owner.kbs.store import Store
from guest_owner.kbs.verifiers.table import verify_log_evidence
from tests.fakes.configfs_tsm import DIRECTORY, FakeConfigfs
from tests.fakes.snp import Chain, FakeSnp
from tests.integration.kbs_harness import DOCUMENT, SECRET, URI, Kbs, make_state, run, running_kbs
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS, snp_image

HOST_DATA = hashlib.sha256(DOCUMENT).digest()


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    root = tmp_path_factory.mktemp("owner")
    state = make_state(root)
    register(state, root)
    with running_kbs(state) as server:
        yield server


def register(state: Path, root: Path) -> None:
    """With the owner's own commands."""
    (root / "amd.pem").write_bytes(Chain().pem)
    (root / "snp.toml").write_bytes(REQUIREMENTS)
    (root / "image.json").write_bytes(encode_reference_set(snp_image("snp-image")))
    (root / "test.json").write_bytes(encode_reference_set(snp_image("test", Profile.TEST)))
    platform = ("--platform", "snp", "--state", state)
    run("register", "root", *platform, root / "amd.pem", "--name", "amd")
    run("register", "requirements", *platform, root / "snp.toml")
    for name in ("image.json", "test.json"):
        run("register", "reference", "--state", state, root / name)


@dataclass
class Guest:
    """One guest on a processor with SEV-SNP."""

    kbs: Kbs
    snp: FakeSnp
    configfs: FakeConfigfs
    init_data: str = DOCUMENT.decode()

    def evidence_for(self, data: ReportData) -> JsonValue:
        self.configfs.make_report = lambda inblob, level: (
            self.snp.report(inblob, level),
            self.snp.chain.table(),
        )
        with open_report_entry(data, DIRECTORY) as fds:
            return snp_attester(fds).collect_evidence(data).value

    def fetch(self, uri: str = "kbs:///" + URI) -> bytes:
        roots = (self.kbs.state / "ca.pem").read_text()
        with HttpClient(pinned_context(roots, check_time=False)) as transport:
            client = KbsClient(
                url=self.kbs.url,
                transport=transport,
                tee=Tee.SNP,
                evidence_for=self.evidence_for,
                init_data=self.init_data,
            )
            return client.get_resource(parse_resource_uri(uri)).body.reveal()


@pytest.fixture
def guest(kbs: Kbs, monkeypatch: pytest.MonkeyPatch) -> Guest:
    measurement = snp_image("snp-image").measured.identities[0][0]
    snp = FakeSnp().with_fields(host_data=HOST_DATA, measurement=measurement)
    configfs = FakeConfigfs(make_report=lambda _inblob, _level: (b"", b""))
    monkeypatch.setattr(tsm, "os", configfs)
    return Guest(kbs, snp, configfs)


def test_guest_on_snp_gets_its_resource(guest: Guest) -> None:
    assert guest.fetch() == SECRET
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["event"], attest["tee"], attest["decision"]) == ("attest", "snp", "accepted")
    assert (attest["reference"], attest["profile"]) == ("snp-image", "prod")
    assert attest["snp"]["measurement"] == guest.snp.fields["measurement"].hex()
    assert "pcr" not in attest
    assert (release["decision"], release["tee"]) == ("released", "snp")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"measurement": b"m" * 48}, "snp.measurement"),
        ({"host_data": b"h" * 32}, "snp.host_data"),
        ({"host_data": bytes(32)}, "snp.host_data"),
        ({"report_id_ma": b"a" * 32}, "snp.report_id_ma"),
        ({"policy": 0x30000 | 1 << 19}, "snp.policy.debug"),
        ({"vmpl": 1}, "snp.vmpl"),
        ({"launch_tcb": bytes(8)}, "snp.tcb.launch"),
        ({"chip_id": bytes(64)}, "snp.chip_id"),
    ],
)
def test_changed_guest_is_refused_by_name(
    guest: Guest, fields: dict[str, bytes | int], name: str
) -> None:
    changed = replace(guest, snp=guest.snp.with_fields(**fields))
    with pytest.raises(CcinitError) as refused:
        changed.fetch()
    assert refused.value.reason == "kbs.attestation_error"
    record = guest.kbs.audit()[-1]
    assert record["decision"] == "refused"
    assert record["reason"].startswith(f"{name}: evidence refused: {name}")
    assert guest.fetch() == SECRET


def test_evidence_of_another_vendor_is_refused(guest: Guest) -> None:
    stranger = replace(guest, snp=replace(guest.snp, chain=Chain(number=1)))
    with pytest.raises(CcinitError):
        stranger.fetch()
    assert guest.kbs.audit()[-1]["reason"].startswith("snp.chain: ")


def test_document_of_the_host_is_refused(guest: Guest) -> None:
    with pytest.raises(CcinitError):
        replace(guest, init_data=DOCUMENT.decode() + "\n").fetch()
    assert guest.kbs.audit()[-1]["reason"].startswith("snp.host_data: ")


def test_test_image_gets_nothing_that_production_gets(guest: Guest) -> None:
    measurement = snp_image("test").measured.identities[0][0]
    tested = replace(guest, snp=guest.snp.with_fields(measurement=measurement))
    with pytest.raises(CcinitError) as refused:
        tested.fetch()
    assert refused.value.reason == "kbs.policy_deny"
    assert "profile test" in guest.kbs.audit()[-1]["reason"]


def test_evidence_of_one_platform_is_none_of_another(guest: Guest) -> None:
    client = guest.kbs.client()
    assert client.auth(tee="snp").status_code == 200
    assert client.attest().status_code == 401
    assert guest.kbs.audit()[-1]["reason"].startswith("snp_evidence.members: ")


def test_sealed_logs_key_is_bound_by_the_same_verifier(guest: Guest) -> None:
    boot_id, signing_key = parse_boot_id(bytes(range(16))), b"k" * 32
    evidence = guest.evidence_for(ReportData(report_data(boot_id, signing_key)))
    references = Store(guest.kbs.state).read_references()
    appraised = verify_log_evidence(
        Tee.SNP, evidence, boot_id=boot_id, signing_key=signing_key, references=references
    )
    assert appraised.initdata.name == "shop"
    with pytest.raises(CcinitError) as refused:
        verify_log_evidence(
            Tee.SNP, evidence, boot_id=boot_id, signing_key=b"j" * 32, references=references
        )
    assert refused.value.reason == "snp.report_data"
