"""An issuer's file and its key set: read strictly, and kept with the keys alone."""

import base64
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.passports.issuer import (
    DEFAULT_AGE_SECONDS,
    Service,
    TdxDemands,
    parse_issuer,
)
from guest_owner.kbs.passports.key_set import (
    MAX_KID_BYTES,
    Algorithm,
    IssuerKey,
    encode_key_set,
    parse_key_set,
)
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.token import ISSUER
from tests.fakes.kbs.attestation_tokens import FakeIssuer, issuer_key
from tests.fakes.machine.scarcity import room_for
from tests.fakes.platforms.tdx_quote import FakePck
from tests.unit.guest_owner.command_line import error_of, run
from tests.unit.guest_owner.kbs.passports.passport_values import (
    AZURE_SIGNER,
    AZURE_TOML,
    INTEL_SIGNER,
    INTEL_TOML,
    SNP_TABLE,
    TDX_TABLE,
)

WHOLE = AZURE_TOML + SNP_TABLE + TDX_TABLE


def refused(text: str) -> str:
    with pytest.raises(CcinitError) as caught:
        parse_issuer(text.encode())
    return caught.value.reason


def test_file_says_who_and_what() -> None:
    terms = parse_issuer(WHOLE.encode())
    assert terms.service is Service.AZURE
    assert terms.algorithms == {Algorithm.RS256}
    assert (terms.audience, terms.policies) == (None, frozenset())
    assert terms.max_age_seconds == DEFAULT_AGE_SECONDS
    assert list(terms.platforms) == [Tee.SNP, Tee.TDX]
    tdx = terms.platforms[Tee.TDX]
    assert isinstance(tdx, TdxDemands)
    assert tdx.tcb_status == ("UpToDate",)
    status = 'tcb_status = ["UpToDate", "SWHardeningNeeded"]\n'
    tdx = parse_issuer((WHOLE + status).encode()).platforms[Tee.TDX]
    assert isinstance(tdx, TdxDemands)
    assert tdx.tcb_status == ("UpToDate", "SWHardeningNeeded")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version = 2\n", "issuer.version"),
        ("version = ", "issuer.toml"),
        (WHOLE.replace("snp = 24", "snp = " + "9" * 5000), "issuer.toml"),
        (AZURE_TOML, "issuer.platforms"),
        (WHOLE.replace("azure-attestation", "another"), "issuer.service"),
        (WHOLE.replace("https://shop.eus.attest.azure.example", ISSUER), "issuer.issuer"),
        (WHOLE.replace('["RS256"]', "[]"), "issuer.algorithms"),
        (WHOLE.replace('["RS256"]', '["RS256", "HS256"]'), "issuer.algorithms"),
        (WHOLE.replace('["RS256"]', '["none"]'), "issuer.algorithms"),
        (AZURE_TOML + "max_age_seconds = 0\n" + SNP_TABLE, "issuer.max_age_seconds"),
        (AZURE_TOML + "max_age_seconds = 86401\n" + SNP_TABLE, "issuer.max_age_seconds"),
        (AZURE_TOML + 'jku = "https://a"\n' + SNP_TABLE, "issuer.unknown"),
        (WHOLE.replace('allow = ["smt"]', 'allow = ["cxl"]'), "issuer.snp.allow"),
        (WHOLE.replace("snp = 24\n", ""), "issuer.snp.snp"),
        (WHOLE.replace("tee = 0\n", "tee = 0\nfmc = 1\n"), "issuer.snp.unknown"),
        (WHOLE.replace("0000000010000000", "0000000010000001"), "issuer.tdx.td_attributes"),
        (WHOLE.replace("0000000010000000", "0000000000000000"), "issuer.tdx.td_attributes"),
        (WHOLE.replace("0000000010000000", "0000000030000000"), "issuer.tdx.td_attributes"),
        (WHOLE.replace('mrseam = ["', 'mrseam = [] # ["'), "issuer.tdx.mrseam"),
        ("x" * 70_000, "issuer.length"),
    ],
)
def test_file_outside_the_rule_is_refused(text: str, reason: str) -> None:
    assert parse_issuer(WHOLE.encode())
    assert refused(text) == reason


def described(keys: tuple[IssuerKey, ...]) -> list[tuple[str, bytes, Algorithm | None]]:
    return [
        (
            key.kid,
            key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key.algorithm,
        )
        for key in keys
    ]


@pytest.mark.parametrize("in_certificate", [False, True])
def test_keys_are_read_as_each_service_publishes_them(*, in_certificate: bool) -> None:
    keys = parse_key_set(AZURE_SIGNER.key_set(in_certificate=in_certificate))
    (key,) = keys
    assert key.kid == AZURE_SIGNER.kid
    assert key.public_key == AZURE_SIGNER.key.public_key()
    assert key.algorithm is (None if in_certificate else Algorithm.PS384)
    kept = encode_key_set(keys)
    assert described(parse_key_set(kept)) == described(keys)
    assert b"x5c" not in kept
    assert b'"e": "AQAB"' in kept


def key(**changes: Any) -> dict[str, Any]:
    (known,) = json.loads(AZURE_SIGNER.key_set())["keys"]
    return {name: value for name, value in {**known, **changes}.items() if value is not None}


def short_key() -> dict[str, Any]:
    numbers = issuer_key("short", 1024).public_key().public_numbers()
    text = base64.urlsafe_b64encode(numbers.n.to_bytes(128, "big")).rstrip(b"=").decode()
    return key(n=text)


EC_CERTIFICATE = base64.b64encode(FakePck().root_certificate.public_bytes(Encoding.DER)).decode()
CURVE = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey, RFC 5480
UNKNOWN_CERTIFICATE = base64.b64encode(
    base64.b64decode(EC_CERTIFICATE).replace(CURVE, CURVE[:-1] + b"\x7f")
).decode()
RSA_CERTIFICATE: str = json.loads(AZURE_SIGNER.key_set(in_certificate=True))["keys"][0]["x5c"][0]
NUMBERED = bytes.fromhex("a003020102020101")  # version 3, serial number 1
NEGATIVE_CERTIFICATE = base64.b64encode(
    base64.b64decode(RSA_CERTIFICATE).replace(NUMBERED, NUMBERED[:-1] + b"\xff")
).decode()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([], "issuer.keys"),
        ({}, "issuer.keys"),
        ([key()] * 65, "issuer.keys"),
        ([key(), key()], "issuer.keys.kid"),
        ([1], "issuer.keys.type"),
        ([key(kid=None)], "issuer.keys.kid"),
        ([key(kid="")], "issuer.keys.kid"),
        ([key(kty="oct", k="c2VjcmV0")], "issuer.keys.kty"),
        ([key(kty="EC")], "issuer.keys.kty"),
        ([key(use="enc")], "issuer.keys.kty"),
        ([key(alg="RSA-OAEP-256")], "issuer.keys.alg"),
        ([key(alg="none")], "issuer.keys.alg"),
        ([key(alg=["RS256"])], "issuer.keys.alg"),
        ([key(n="AQAB")], "issuer.keys.n"),
        ([key(n="!")], "issuer.keys.n"),
        ([key(e="Ag")], "issuer.keys.n"),
        ([short_key()], "issuer.keys.size"),
        ([key(n=None)], "issuer.keys.x5c"),
        ([key(n=None, x5c=None)], "issuer.keys.x5c"),
        ([key(n=None, x5c=[])], "issuer.keys.x5c"),
        ([key(n=None, x5c="MIIE")], "issuer.keys.x5c"),
        ([key(n=None, x5c=[1])], "issuer.keys.x5c"),
        ([key(n=None, x5c={"0": RSA_CERTIFICATE})], "issuer.keys.x5c"),
        ([key(n=None, x5c=[RSA_CERTIFICATE + "\n"])], "issuer.keys.x5c"),
        ([key(kid="k" * (MAX_KID_BYTES + 1))], "issuer.keys.kid"),
        ([key(n=None, x5c=[EC_CERTIFICATE])], "issuer.keys.x5c"),
        ([key(n=None, x5c=[UNKNOWN_CERTIFICATE])], "issuer.keys.x5c"),
    ],
)
def test_key_set_outside_the_rule_is_refused(keys: object, reason: str) -> None:
    assert parse_key_set(json.dumps({"keys": [key()]}).encode())
    with pytest.raises(CcinitError) as caught:
        parse_key_set(json.dumps({"keys": keys}).encode())
    assert caught.value.reason == reason


def test_set_that_is_no_object_is_refused() -> None:
    for text, reason in (("[]", "issuer.keys"), ("{", "issuer.keys.json")):
        with pytest.raises(CcinitError) as caught:
            parse_key_set(text.encode())
        assert caught.value.reason == reason


@pytest.mark.filterwarnings("ignore")  # as in the owner's commands
def test_certificate_that_the_library_warns_of_is_refused() -> None:
    def read(certificate: str) -> tuple[IssuerKey, ...]:
        return parse_key_set(json.dumps({"keys": [key(n=None, x5c=[certificate])]}).encode())

    assert NEGATIVE_CERTIFICATE != RSA_CERTIFICATE
    with pytest.raises(CcinitError) as caught:
        read(NEGATIVE_CERTIFICATE)
    assert caught.value.reason == "issuer.keys.x5c"
    assert read(RSA_CERTIFICATE)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "azure.toml").write_text(WHOLE)
    (tmp_path / "azure.json").write_bytes(AZURE_SIGNER.key_set(in_certificate=True))
    (tmp_path / "intel.toml").write_text(INTEL_TOML + TDX_TABLE)
    (tmp_path / "intel.json").write_bytes(INTEL_SIGNER.key_set())
    return tmp_path


def register(state: Path, files: Path, name: str, *more: object) -> int:
    keys = ("--keys", files / f"{name}.json")
    return run("register", "issuer", "--state", state, files / f"{name}.toml", *keys, *more)


def test_command_registers_issuers_with_their_keys(
    state: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Store(state).read_issuers() == ()
    assert register(state, files, "azure") == 0
    assert "registered issuer azure for snp and tdx: 1 keys" in capsys.readouterr().out
    assert register(state, files, "intel", "--name", "intel-eu") == 0
    azure, intel = Store(state).read_issuers()
    assert (azure.name, intel.name) == ("azure", "intel-eu")
    published = parse_key_set(AZURE_SIGNER.key_set(in_certificate=True))
    assert described(azure.keys) == described(published)
    assert intel.keys[0].public_key == INTEL_SIGNER.key.public_key()


def test_new_keys_replace_the_old_ones(state: Path, files: Path) -> None:
    assert register(state, files, "azure") == 0
    renewed = FakeIssuer(kid="new", key_label="renewed")
    (files / "azure.json").write_bytes(renewed.key_set())
    assert register(state, files, "azure") == 0
    (azure,) = Store(state).read_issuers()
    assert [one.kid for one in azure.keys] == ["new"]


def test_keys_are_not_replaced_without_the_terms_they_come_with(state: Path, files: Path) -> None:
    assert register(state, files, "azure") == 0
    (files / "azure.json").write_bytes(FakeIssuer(kid="new", key_label="renewed").key_set())
    terms = files / "azure.toml"
    terms.write_bytes(terms.read_bytes() + b"#" * 8192)
    with room_for(8192):
        assert register(state, files, "azure") == 1
    (azure,) = Store(state).read_issuers()
    assert "new" not in [one.kid for one in azure.keys]
    assert register(state, files, "azure") == 0
    (azure,) = Store(state).read_issuers()
    assert [one.kid for one in azure.keys] == ["new"]


def test_two_registrations_are_not_one_issuer(
    state: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register(state, files, "azure") == 0
    assert register(state, files, "azure", "--name", "again") == 1
    assert "[issuer.exists]" in error_of(capsys)
    assert [one.name for one in Store(state).read_issuers()] == ["azure"]


def test_issuer_without_its_keys_does_not_count(state: Path, files: Path) -> None:
    assert register(state, files, "azure") == 0
    (state / "issuer-keys/azure.json").unlink()
    with pytest.raises(ConfigError, match="azure has no keys") as refused:
        Store(state).read_issuers()
    assert refused.value.reason == "state.issuers"
    assert register(state, files, "azure") == 0
    assert [one.name for one in Store(state).read_issuers()] == ["azure"]


def test_registration_that_ended_between_its_two_files_is_none_and_can_be_repeated(
    state: Path, files: Path
) -> None:
    assert register(state, files, "azure") == 0
    (state / "issuers/azure.toml").unlink()
    assert Store(state).read_issuers() == ()
    assert register(state, files, "azure") == 0
    assert [one.name for one in Store(state).read_issuers()] == ["azure"]


def test_keys_of_an_issuer_are_written_before_its_terms(state: Path) -> None:
    """Whatever ends the writing in between: terms without keys would end every read."""
    written: list[str] = []

    def record(files: Mapping[str, bytes | None]) -> AbstractContextManager[None]:
        written.extend(files)
        return nullcontext()

    Store(state, record).add_issuer("azure", WHOLE.encode(), AZURE_SIGNER.key_set())
    assert written == ["issuer-keys/azure.json", "issuers/azure.toml"]


def test_what_cannot_be_read_is_not_registered(
    state: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "azure.json").write_text("{}")
    assert register(state, files, "azure") == 1
    assert "[issuer.keys]" in error_of(capsys)
    (files / "azure.json").write_bytes(AZURE_SIGNER.key_set())
    (files / "azure.toml").write_text(AZURE_TOML)
    assert register(state, files, "azure") == 1
    assert "[issuer.platforms]" in error_of(capsys)
    assert Store(state).read_issuers() == ()
    with pytest.raises(SystemExit) as ended:
        register(state, files, "intel", "--name", "../intel")
    assert ended.value.code == 2
    assert "[register.name]" in error_of(capsys)
