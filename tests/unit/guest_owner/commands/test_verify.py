"""`guest-owner verify`: both inputs, what is trusted, the table, the JSON form, the exit status."""

import json
from pathlib import Path

import pytest

from ccinit.formats.evidence.tee import Tee, report_data_for
from ccinit.formats.kbs.jwk import EcPublicJwk
from ccinit.formats.kbs.rcar import Attestation, Nonce, encode_attestation, report_digest
from guest_owner.kbs.audit.claims import decode_claims
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.state.store import Store
from tests.fakes.platforms.snp import Chain
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.unit.guest_owner.command_line import SM2_PUBLIC_KEY, error_of, run, status_of_wrong_usage
from tests.unit.guest_owner.kbs.snp_values import REPORT_DATA as SNP_REPORT_DATA
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS, booted_snp, snp_image
from tests.unit.guest_owner.kbs.values import (
    DOCUMENT,
    REPORT_DATA,
    booted_tpm,
    reference_set,
    register,
)

IMAGE = reference_set()
NONCE = Nonce("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
# RFC 7515 A.3.
KEY = EcPublicJwk(
    x=bytes.fromhex("7fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445"),
    y=bytes.fromhex("c7f144cd1bbd9b7e872cdfedb9eeb9f4b3695d6ea90b24ad8a4623288588e5ad"),
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[object, ...]:
    """What is trusted, as options."""
    (tmp_path / "image.json").write_bytes(encode_reference_set(IMAGE))
    (tmp_path / "ak.der").write_bytes(booted_tpm(IMAGE).public_der)
    (tmp_path / "shop.toml").write_bytes(DOCUMENT)
    return (
        *("--reference", tmp_path / "image.json"),
        *("--ak", tmp_path / "ak.der"),
        *("--initdata", tmp_path / "shop.toml"),
    )


def attest_body(path: Path, tpm: FakeTpm, *, document: str = DOCUMENT.decode()) -> Path:
    report_data = report_data_for(Tee.TPM, report_digest(NONCE, KEY, "", Tee.TPM))
    attestation = Attestation(
        nonce=NONCE,
        tee_pubkey=KEY,
        init_data=document,
        primary_evidence=tpm.quote(report_data).to_json_value(),
        additional_evidence="",
    )
    path.write_bytes(encode_attestation(attestation))
    return path


def bare(path: Path, tpm: FakeTpm) -> Path:
    path.write_text(json.dumps(tpm.quote(REPORT_DATA).to_json_value()))
    return path


def verify(path: Path, *options: object) -> int:
    return run("verify", path, *options)


def test_genuine_attest_body_is_accepted_claim_by_claim(
    tmp_path: Path, files: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(attest_body(tmp_path / "body", booted_tpm(IMAGE)), *files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["claim", "expected", "got", "verdict"]
    assert {line.split()[-1] for line in lines[1:-2]} == {"ok"}
    names = [line.split()[0] for line in lines[1:-2]]
    assert {"quote.report_data", "pcr.4", "pcr.8", "initdata.digest", "pcr.15"} <= set(names)
    assert lines[-1] == "accepted: image image-1 (prod), initdata shop"


def test_register_that_differs_is_named_with_both_values(
    tmp_path: Path, files: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    tpm = booted_tpm(IMAGE)
    tpm.pcrs[9] = register("another initrd")
    assert verify(attest_body(tmp_path / "body", tpm), *files) == 1
    lines = capsys.readouterr().out.splitlines()
    (refused,) = (line for line in lines if line.endswith("REFUSED"))
    expected = register("image-1 pcr 9").hex()
    assert refused.split() == ["pcr.9", expected, "(image-1)", tpm.pcrs[9].hex(), "REFUSED"]
    assert lines[-1] == "refused: pcr.9"


def test_json_has_the_claims_as_the_audit_log_has_them(
    tmp_path: Path, files: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(attest_body(tmp_path / "good", booted_tpm(IMAGE)), *files, "--json") == 0
    accepted = json.loads(capsys.readouterr().out)
    assert (accepted["verdict"], accepted["reference"]) == ("accepted", "image-1")
    assert all(claim["holds"] for claim in accepted["claims"])
    tpm = booted_tpm(IMAGE)
    tpm.pcrs[12] = register("addon")
    assert verify(attest_body(tmp_path / "bad", tpm), *files, "--json") == 1
    refused = json.loads(capsys.readouterr().out)
    assert (refused["verdict"], refused["reason"]) == ("refused", "pcr.12")
    assert refused["authentic"] is True
    assert [claim["name"] for claim in refused["claims"] if not claim["holds"]] == ["pcr.12"]
    assert set(refused["claims"][0]) == {"name", "expected", "got", "holds"}


def test_body_whose_key_was_exchanged_is_refused(
    tmp_path: Path, files: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads(attest_body(tmp_path / "body", booted_tpm(IMAGE)).read_bytes())
    body["runtime-data"]["nonce"] = NONCE.swapcase()
    (tmp_path / "body").write_text(json.dumps(body))
    assert verify(tmp_path / "body", *files) == 1
    assert "refused: quote.report_data" in capsys.readouterr().out


def test_evidence_alone_is_judged_for_the_given_report_data(
    tmp_path: Path, files: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    path = bare(tmp_path / "evidence", booted_tpm(IMAGE))
    assert verify(path, *files, "--report-data", REPORT_DATA.hex()) == 0
    assert "pcr.8" in capsys.readouterr().out
    assert verify(path, *files, "--report-data", "00" * 32) == 1
    assert "refused: quote.report_data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left_out", "failing"),
    [
        ("--ak", "refused: ak.unregistered"),
        ("--initdata", "refused: initdata.digest"),
        ("--reference", "refused: pcr.4, pcr.9, pcr.11"),
    ],
)
def test_what_is_not_named_is_not_trusted(
    tmp_path: Path,
    files: tuple[object, ...],
    state: Path,
    capsys: pytest.CaptureFixture[str],
    left_out: str,
    failing: str,
) -> None:
    Store(state).add_attestation_key("node", booted_tpm(IMAGE).public_der)
    at = files.index(left_out)
    named = files[:at] + files[at + 2 :]
    body = attest_body(tmp_path / "body", booted_tpm(IMAGE))
    assert verify(body, *named, "--state", state) == 1
    assert capsys.readouterr().out.splitlines()[-1] == failing


def test_without_files_the_state_directory_is_trusted(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = attest_body(tmp_path / "body", booted_tpm(IMAGE))
    assert verify(body, "--state", state) == 1
    store = Store(state)
    store.add_reference(IMAGE)
    store.add_attestation_key("node", booted_tpm(IMAGE).public_der)
    (state / "initdata").mkdir()
    (state / "initdata/shop.toml").write_bytes(DOCUMENT)
    capsys.readouterr()
    assert verify(body, "--state", state) == 0
    table = capsys.readouterr().out.splitlines()[:-2]

    # The same claims in the audit log print as the same table.
    assert verify(body, "--state", state, "--json") == 0
    claims = decode_claims(json.loads(capsys.readouterr().out))
    AuditLog(state / "audit.jsonl").append(
        AuditRecord(
            event=Event.ATTEST, session="s", tee="tpm", decision=Decision.ACCEPTED, claims=claims
        )
    )
    assert run("audit", "show", "--state", state, "--session", "s", "--all") == 0
    assert capsys.readouterr().out.splitlines()[-len(table) :] == table


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        ("{", (), "verify.json"),
        ("{}", (), "verify.report_data"),
        ("{}", ("--report-data", "00" * 32), "tpm_evidence.members"),
        ('{"tee-evidence": {}}', (), "rcar.members"),
        ('{"tee-evidence": {}}', ("--report-data", "00"), "verify.report_data"),
    ],
)
def test_malformed_input_is_refused(
    tmp_path: Path,
    files: tuple[object, ...],
    capsys: pytest.CaptureFixture[str],
    content: str,
    options: tuple[str, ...],
    reason: str,
) -> None:
    (tmp_path / "evidence").write_text(content)
    assert verify(tmp_path / "evidence", *files, *options) == 1
    assert f"[{reason}]" in error_of(capsys)


@pytest.mark.parametrize("text", ["", "xyz", "00" * 65])
def test_report_data_that_no_evidence_carries_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert status_of_wrong_usage("verify", "missing", "--report-data", text) == 2
    assert "[verify.report_data]" in error_of(capsys)


@pytest.mark.parametrize("option", ["--reference", "--ak", "--root", "--requirements"])
def test_file_that_cannot_be_trusted_is_named(
    tmp_path: Path, files: tuple[object, ...], capsys: pytest.CaptureFixture[str], option: str
) -> None:
    body = attest_body(tmp_path / "body.json", booted_tpm(IMAGE))
    other = tmp_path / "other"
    other.write_bytes(SM2_PUBLIC_KEY)
    assert run("verify", body, "--platform", "tpm", *files, option, other) == 1
    assert f"guest-owner: {other}: " in error_of(capsys)


def test_unknown_platform_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        verify(tmp_path / "evidence", "--platform", "sampledevice")
    assert ended.value.code == 2


def test_snp_evidence_is_judged_by_roots_and_requirements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "image.json").write_bytes(encode_reference_set(snp_image()))
    (tmp_path / "amd.pem").write_bytes(Chain().pem)
    (tmp_path / "snp.toml").write_bytes(REQUIREMENTS)
    (tmp_path / "shop.toml").write_bytes(DOCUMENT)
    named = (
        *("--platform", "snp", "--report-data", SNP_REPORT_DATA.hex()),
        *("--reference", tmp_path / "image.json", "--root", tmp_path / "amd.pem"),
        *("--initdata", tmp_path / "shop.toml"),
    )
    path = tmp_path / "evidence"
    path.write_text(json.dumps(booted_snp().evidence(SNP_REPORT_DATA)))
    assert verify(path, *named, "--requirements", tmp_path / "snp.toml") == 0
    assert "accepted: image image-1 (prod), initdata shop" in capsys.readouterr().out
    assert verify(path, *named) == 1
    assert "REFUSED" in capsys.readouterr().out
    path.write_text(json.dumps(booted_snp(vmpl=1).evidence(SNP_REPORT_DATA)))
    assert verify(path, *named, "--requirements", tmp_path / "snp.toml") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "refused: snp.vmpl"
