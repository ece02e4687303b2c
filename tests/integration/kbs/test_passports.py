"""Guests that another Verifier appraises, before the owner's running KBS: the way of a passport.

Azure Attestation and Intel Trust Authority are simulated (tests/fakes/kbs/attestation_service.py):
they check requests strictly and sign tokens in their own forms, about whatever report or quote
came. So what a changed guest is refused by is the KBS.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ccinit.attest.passport import PassportSource
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import AttestationService as Service
from ccinit.formats.initdata.guest_config import PassportConfig
from tests.fakes.kbs.attestation_service import (
    API_KEY,
    POLICY,
    URL,
    AttestationService,
    AzureAttestation,
    IntelTrustAuthority,
)
from tests.fakes.kbs.attestation_tokens import AZURE, FakeIssuer
from tests.fakes.kbs.http import FakeKbs
from tests.fakes.platforms.tdx_quote import measurement
from tests.integration.attestation.tee_guests import (
    TeeGuest,
    make_snp_guest,
    make_tdx_guest,
    running_tee_kbs,
)
from tests.integration.kbs.harness import SECRET, URI, Kbs, run
from tests.unit.guest_owner.kbs.passports.passport_values import (
    AZURE_SIGNER,
    AZURE_TOML,
    INTEL_SIGNER,
    INTEL_TOML,
    SNP_TABLE,
    TDX_TABLE,
)
from tests.unit.guest_owner.kbs.snp_values import snp_image

REFUSED = "kbs.token_verifier_error"
STRANGER = FakeIssuer(iss=AZURE, kid=AZURE_SIGNER.kid, key_label="stranger")


def now() -> int:
    return int(time.time())


@dataclass
class Appraised:
    """A service as one guest asks it."""

    name: Service
    service: AttestationService

    def source(self, guest: TeeGuest) -> PassportSource:
        is_intel = self.name is not Service.AZURE
        config = PassportConfig(
            service=self.name,
            url=URL,
            ca_pem="",
            api_key=API_KEY if is_intel else None,
            policy_ids=(POLICY,) if is_intel else (),
        )
        return PassportSource(
            config, transport=self.service, tee=guest.tee, evidence_for=guest.evidence_for
        )


def azure(signer: FakeIssuer = AZURE_SIGNER) -> Appraised:
    return Appraised(Service.AZURE, AzureAttestation(kbs=FakeKbs(), now=now, issuer=signer))


def intel(version: int) -> Appraised:
    name = list(Service)[version]
    service = IntelTrustAuthority(
        kbs=FakeKbs(), version=version, policies=(POLICY,), now=now, issuer=INTEL_SIGNER
    )
    return Appraised(name, service)


WAYS: dict[str, tuple[str, Callable[[], Appraised]]] = {
    "azure-snp": ("snp", azure),
    "azure-tdx": ("tdx", azure),
    "intel-v1-tdx": ("tdx", lambda: intel(1)),
    "intel-v2-tdx": ("tdx", lambda: intel(2)),
    "intel-v2-snp": ("snp", lambda: intel(2)),
}


@pytest.fixture(scope="module")
def kbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kbs]:
    root = tmp_path_factory.mktemp("owner")
    with running_tee_kbs(root) as server:
        register(server.state, root)
        yield server


def register(state: Path, root: Path) -> None:
    """With the owner's own command; Intel's tokens have to say that the owner's policy matched."""
    tables = SNP_TABLE + TDX_TABLE
    for name, text, keys in (
        ("azure", AZURE_TOML + tables, AZURE_SIGNER.key_set(in_certificate=True)),
        ("intel", f'{INTEL_TOML}policies = ["{POLICY}"]\n{tables}', INTEL_SIGNER.key_set()),
    ):
        (root / f"{name}.toml").write_text(text)
        (root / f"{name}.json").write_bytes(keys)
        files = (root / f"{name}.toml", "--keys", root / f"{name}.json")
        run("register", "issuer", "--state", state, *files)


@pytest.fixture
def snp(kbs: Kbs, monkeypatch: pytest.MonkeyPatch) -> TeeGuest:
    return make_snp_guest(kbs, monkeypatch)


@pytest.fixture
def tdx(kbs: Kbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TeeGuest:
    return make_tdx_guest(kbs, tmp_path / "CCEL", monkeypatch)


@pytest.fixture(params=WAYS)
def guest(request: pytest.FixtureRequest) -> TeeGuest:
    platform, make = WAYS[request.param]
    made: TeeGuest = request.getfixturevalue(platform)
    return replace(made, passport=make().source)


def test_guest_with_a_passport_gets_its_resources(guest: TeeGuest) -> None:
    assert guest.fetch_all("kbs:///" + URI, "kbs:///" + URI) == [SECRET, SECRET]
    attest, *releases = guest.kbs.audit()[-3:]
    assert (attest["event"], attest["decision"], attest["tee"]) == (
        "attest",
        "accepted",
        guest.tee,
    )
    assert (attest["reference"], attest["profile"]) == (f"{guest.tee}-image", "prod")
    assert attest["initdata_name"] == {Tee.SNP: "shop", Tee.TDX: "shop-tdx"}[guest.tee]
    assert attest["passport"]["issuer"] in {"azure", "intel"}
    assert [(one["event"], one["decision"]) for one in releases] == [("resource", "released")] * 2
    assert {one["session"] for one in releases} == {attest["session"]}


CHANGES: dict[Tee, list[tuple[dict[str, Any], str]]] = {
    Tee.SNP: [
        ({"measurement": b"m" * 48}, "snp.measurement"),
        ({"host_data": b"h" * 32}, "initdata.digest"),
        ({"host_data": bytes(32)}, "initdata.digest"),
        ({"policy": 0x30000 | 1 << 19}, "snp.policy.debug"),
        ({"policy": 0x30000 | 1 << 18}, "snp.policy.migrate_ma"),
        ({"vmpl": 1}, "snp.vmpl"),
        ({"reported_tcb": bytes(8)}, "snp.tcb.reported"),
    ],
    Tee.TDX: [
        ({"mrtd": measurement("another firmware")}, "td.mrtd"),
        ({"mrconfigid": measurement("another document")}, "initdata.digest"),
        ({"mrconfigid": bytes(48)}, "initdata.digest"),
        ({"td_attributes": 1 << 28 | 1}, "td.debug"),
        ({"xfam": 7}, "td.xfam"),
        ({"mrseam": measurement("another module")}, "td.mrseam"),
        ({"tee_tcb_svn": bytes(16)}, "td.tee_tcb_svn"),
        ({"mrowner": measurement("owner")}, "td.mrowner"),
    ],
}


def test_changed_guest_is_refused_by_name_whoever_vouches_for_it(guest: TeeGuest) -> None:
    for fields, name in CHANGES[guest.tee]:
        reason = guest.changed(**fields).refused(REFUSED)
        assert reason.startswith(f"{name}: evidence refused: {name}")
        assert guest.kbs.audit()[-1]["passport"]["issuer"] in {"azure", "intel"}
    assert guest.fetch() == SECRET


def denied(guest: TeeGuest) -> str:
    """Fetch, which must fail before anything is believed; return what the owner reads."""
    with pytest.raises(Exception, match=REFUSED):
        guest.fetch()
    record = guest.kbs.audit()[-1]
    assert (record["event"], record["decision"]) == ("resource", "denied")
    return str(record["reason"])


def test_token_that_another_key_signed_is_refused(snp: TeeGuest) -> None:
    forged = replace(snp, passport=azure(STRANGER).source)
    assert denied(forged).startswith("passport.signature: ")
    assert replace(snp, passport=azure().source).fetch() == SECRET


def test_token_of_an_issuer_that_nobody_registered_is_refused(snp: TeeGuest) -> None:
    stranger = replace(AZURE_SIGNER, iss="https://another.attest.azure.example")
    assert denied(replace(snp, passport=azure(stranger).source)).startswith("passport.issuer: ")


def test_old_token_is_refused_by_its_age(snp: TeeGuest) -> None:
    asked = azure()
    asked.service.now = lambda: now() - 400
    asked.service.life_seconds = 28_800
    old = replace(snp, passport=asked.source)
    assert old.refused(REFUSED).startswith("passport.age: ")


def test_test_image_gets_nothing_that_production_gets(snp: TeeGuest) -> None:
    tested = snp.changed(measurement=snp_image("snp-test").measured.identities[0][0])
    tested.passport = azure().source
    with pytest.raises(Exception, match=r"kbs\.policy_deny"):
        tested.fetch()
    assert "profile test" in str(snp.kbs.audit()[-1]["reason"])


def test_token_that_somebody_else_shows_opens_nothing(snp: TeeGuest) -> None:
    """It is the key that a resource is encrypted to which makes a token worth something."""
    asked = azure()
    assert replace(snp, passport=asked.source).fetch() == SECRET
    [token] = asked.service.kbs.passports
    with httpx.Client(base_url=snp.kbs.url, verify=snp.kbs.tls, trust_env=False) as client:
        reply = client.get(f"/kbs/v0/resource/{URI}", headers={"authorization": f"Bearer {token}"})
    assert reply.status_code == 200
    assert set(reply.json()) >= {"encrypted_key", "ciphertext"}
    assert SECRET not in reply.content


def test_what_is_withdrawn_counts_at_once(snp: TeeGuest, tmp_path: Path) -> None:
    asked = azure()
    guest = replace(snp, passport=asked.source)
    assert guest.fetch() == SECRET
    image = snp.kbs.state / "references/snp-image.json"
    kept = image.read_bytes()
    image.unlink()
    try:
        assert guest.refused(REFUSED).startswith("snp.measurement: ")
    finally:
        image.write_bytes(kept)
    assert guest.fetch() == SECRET
    issuer = snp.kbs.state / "issuers/azure.toml"
    issuer.rename(tmp_path / "azure.toml")
    keys = snp.kbs.state / "issuer-keys/azure.json"
    keys.rename(tmp_path / "azure.json")
    try:
        assert denied(guest).startswith("passport.issuer: ")
    finally:
        (tmp_path / "azure.toml").rename(issuer)
        (tmp_path / "azure.json").rename(keys)
    assert guest.fetch() == SECRET


def test_state_whose_disk_is_not_mounted_refuses_no_token(snp: TeeGuest, tmp_path: Path) -> None:
    asked = azure()
    assert replace(snp, passport=asked.source).fetch() == SECRET
    [token] = asked.service.kbs.passports
    bearer = {"authorization": f"Bearer {token}"}
    gone = [snp.kbs.state / name for name in ("issuers", "issuer-keys", "policy.toml")]
    with httpx.Client(base_url=snp.kbs.url, verify=snp.kbs.tls, trust_env=False) as client:
        for path in gone:
            path.rename(tmp_path / path.name)
        try:
            assert client.get(f"/kbs/v0/resource/{URI}", headers=bearer).status_code == 500
        finally:
            for path in gone:
                (tmp_path / path.name).rename(path)
        assert client.get(f"/kbs/v0/resource/{URI}", headers=bearer).status_code == 200
    records = [str(one["reason"]) for one in snp.kbs.audit()]
    assert [one for one in records if one.startswith("state.read: ")]


def test_policy_is_explained_for_the_session_of_a_token(
    snp: TeeGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(snp, passport=azure().source).fetch()
    session = snp.kbs.audit()[-1]["session"]
    run("policy", "explain", "--state", snp.kbs.state, "kbs:///" + URI, "--session", session)
    shown = capsys.readouterr().out
    assert "image snp-image (prod)" in shown
    assert "released by rule" in shown
    run("audit", "show", "--state", snp.kbs.state, "--session", session, "--all")
    assert "passport.report_data" in capsys.readouterr().out
