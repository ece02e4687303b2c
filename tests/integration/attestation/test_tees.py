"""The whole way of SEV-SNP and TDX alike: configfs-tsm, handshake over TLS, the real verifier."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.sealed_log import parse_boot_id, report_data
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.table import verify_log_evidence
from tests.fakes.platforms.snp import Chain
from tests.fakes.platforms.tdx_quote import FakePck, measurement
from tests.integration.attestation.tee_guests import (
    SnpGuest,
    TdxGuest,
    TeeGuest,
    make_snp_guest,
    make_tdx_guest,
    running_tee_kbs,
)
from tests.integration.kbs.harness import SECRET, Kbs
from tests.unit.guest_owner.kbs.snp_values import snp_image

REPORT_DATA = {Tee.SNP: "snp.report_data", Tee.TDX: "quote.report_data"}
BOUND = {Tee.SNP: "snp.host_data", Tee.TDX: "td.mrconfigid"}


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    with running_tee_kbs(tmp_path_factory.mktemp("owner")) as server:
        yield server


@pytest.fixture
def snp(kbs: Kbs, monkeypatch: pytest.MonkeyPatch) -> SnpGuest:
    return make_snp_guest(kbs, monkeypatch)


@pytest.fixture
def tdx(kbs: Kbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TdxGuest:
    return make_tdx_guest(kbs, tmp_path / "CCEL", monkeypatch)


@pytest.fixture(params=["snp", "tdx"])
def guest(request: pytest.FixtureRequest) -> TeeGuest:
    made: TeeGuest = request.getfixturevalue(request.param)
    return made


def test_guest_gets_its_resource(guest: TeeGuest) -> None:
    assert guest.fetch() == SECRET
    attest, release = guest.kbs.audit()[-2:]
    assert (attest["event"], attest["decision"]) == ("attest", "accepted")
    assert (attest["reference"], attest["profile"]) == (f"{guest.tee}-image", "prod")
    assert "pcr" not in attest
    assert release["decision"] == "released"
    assert attest["tee"] == release["tee"] == guest.tee


def refused_by_name(guest: TeeGuest, fields: dict[str, object], name: str) -> None:
    assert guest.changed(**fields).refused().startswith(f"{name}: evidence refused: {name}")
    assert guest.fetch() == SECRET


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
def test_changed_guest_on_snp_is_refused_by_name(
    snp: TeeGuest, fields: dict[str, object], name: str
) -> None:
    refused_by_name(snp, fields, name)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"mrtd": measurement("another firmware")}, "td.mrtd"),
        ({"mrconfigid": measurement("another document")}, "td.mrconfigid"),
        ({"mrconfigid": bytes(48)}, "td.mrconfigid"),
        ({"td_attributes": 1 << 28 | 1}, "td.debug"),
        ({"xfam": 7}, "td.xfam"),
        ({"mrseam": measurement("another module")}, "td.mrseam"),
        ({"tee_tcb_svn": bytes(16)}, "td.tee_tcb_svn"),
        ({"qe_svn": 0}, "qe.isv_svn"),
        ({"mrowner": measurement("owner")}, "td.mrowner"),
        ({"quote_signer": "somebody else"}, "quote.signature"),
        ({"pck": FakePck(pce_svn=1)}, "pck.pce_svn"),
        ({"pck": FakePck(root="the host's own")}, "pck.chain"),
    ],
)
def test_changed_guest_on_tdx_is_refused_by_name(
    tdx: TeeGuest, fields: dict[str, object], name: str
) -> None:
    refused_by_name(tdx, fields, name)


def test_audit_log_has_the_launch_fields_of_snp(snp: SnpGuest) -> None:
    assert snp.fetch() == SECRET
    attest, _ = snp.kbs.audit()[-2:]
    shown = attest["snp"]
    assert isinstance(shown, dict)
    for name in ("measurement", "host_data"):
        value = snp.snp.fields[name]
        assert isinstance(value, bytes)
        assert shown[name] == value.hex()


def test_chips_of_another_vendor_are_refused(snp: SnpGuest) -> None:
    stranger = replace(snp, snp=replace(snp.snp, chain=Chain(number=1)))
    assert stranger.refused().startswith("snp.chain: ")


def test_test_image_gets_nothing_that_production_gets(snp: SnpGuest) -> None:
    measurement = snp_image("snp-test").measured.identities[0][0]
    with pytest.raises(CcinitError) as refused:
        snp.changed(measurement=measurement).fetch()
    assert refused.value.reason == "kbs.policy_deny"
    assert "profile test" in str(snp.kbs.audit()[-1]["reason"])


def test_document_of_the_host_is_refused(guest: TeeGuest) -> None:
    changed = replace(guest, init_data=guest.init_data + "\n")
    assert changed.refused().startswith(f"{BOUND[guest.tee]}: ")


def test_evidence_of_one_platform_is_none_of_another(guest: TeeGuest) -> None:
    client = guest.kbs.client()
    assert client.auth(tee=guest.tee).status_code == 200
    assert client.attest().status_code == 401
    assert str(guest.kbs.audit()[-1]["reason"]).startswith(f"{guest.tee}_evidence.")


def test_sealed_logs_key_is_bound_by_the_same_verifier(guest: TeeGuest) -> None:
    boot_id, signing_key = parse_boot_id(bytes(range(16))), b"k" * 32
    evidence = guest.evidence_for(ReportData(report_data(boot_id, signing_key)), b"")
    references = Store(guest.kbs.state).read_references()
    appraised = verify_log_evidence(
        guest.tee, evidence, boot_id=boot_id, signing_key=signing_key, references=references
    )
    assert appraised.initdata.name == {Tee.SNP: "shop", Tee.TDX: "shop-tdx"}[guest.tee]
    with pytest.raises(CcinitError) as refused:
        verify_log_evidence(
            guest.tee, evidence, boot_id=boot_id, signing_key=b"j" * 32, references=references
        )
    assert refused.value.reason == REPORT_DATA[guest.tee]
