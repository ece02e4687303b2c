"""Tokens of this KBS: who was attested, under its own signature alone."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding.strict_json import decode_base64url, encode_base64url
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.rcar import Nonce
from guest_owner.kbs.appraisal import AppraisedDevice, AppraisedEvidence
from guest_owner.kbs.jwe import public_jwk
from guest_owner.kbs.sessions import Attested
from guest_owner.kbs.token import TokenSigner
from guest_owner.kbs.verifiers.tpm import verify_evidence
from tests.fakes.platforms.tpm_quote import extend
from tests.unit.guest_owner.kbs.values import (
    DOCUMENT,
    REPORT_DATA,
    booted_tpm,
    reference_set,
    references,
)

KEY = ec.generate_private_key(ec.SECP256R1())


def appraised() -> AppraisedEvidence:
    tpm = booted_tpm(reference_set())
    return verify_evidence(
        tpm.quote(REPORT_DATA).to_json_value(),
        report_data=REPORT_DATA,
        initdata_digest=None,
        references=references(reference_set(), tpm=tpm),
    )


GUEST = Attested(
    label="label",
    tee=Tee.TPM,
    subject=appraised().subject,
    tee_pubkey=public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()),
    basis=frozenset(("tpm sha256:00", "requirements snp sha256:11")),
)


def sign(key: ec.EllipticCurvePrivateKey = KEY, now: float = 1_800_000_000) -> str:
    signer = TokenSigner(key, life_seconds=300, clock=lambda: now)
    return signer.sign(appraised(), GUEST, Nonce("bm9uY2U="))


def verify(token: str, now: float = 1_800_000_000) -> Attested:
    return TokenSigner(KEY, life_seconds=300, clock=lambda: now).verify(token)


def reason_of(token: str, now: float = 1_800_000_000) -> str:
    with pytest.raises(CcinitError) as caught:
        verify(token, now)
    return caught.value.reason


def test_verify_gives_back_who_was_attested() -> None:
    assert verify(sign()) == GUEST


def parts_of(token: str) -> list[bytes]:
    return [decode_base64url(part, "token") for part in token.split(".")]


def test_token_has_the_key_that_verifies_it() -> None:
    header = parts_of(sign())[0]
    point = KEY.public_key().public_numbers()
    jwk = json.loads(header)["jwk"]
    assert json.loads(header) == {"typ": "JWT", "alg": "ES256", "kid": jwk["kid"], "jwk": jwk}
    assert jwk == {
        "kty": "EC",
        "crv": "P-256",
        "alg": "ES256",
        "kid": jwk["kid"],
        "x": encode_base64url(point.x.to_bytes(32, "big")),
        "y": encode_base64url(point.y.to_bytes(32, "big")),
    }


def test_relying_party_finds_every_claim_of_a_token_of_trustee() -> None:
    """Claims as in Trustee's EAR tokens, and the one member that this KBS decides by."""
    evidence, claims = appraised(), parts_of(sign())[1]
    tee_pubkey = GUEST.tee_pubkey.to_json_object()
    digest = f"sha256:{hashlib.sha256(DOCUMENT).hexdigest()}"
    assert json.loads(claims) == {
        "eat_profile": "tag:github.com,2024:confidential-containers/Trustee",
        "iat": 1_800_000_000,
        "exp": 1_800_000_300,
        "iss": "ccinit guest-owner",
        "ear.verifier-id": {"developer": "ccinit", "build": "guest-owner"},
        "submods": {
            "cpu0": {
                "ear.status": "affirming",
                "ear.trustworthiness-vector": {
                    "instance-identity": 2,
                    "configuration": 2,
                    "executables": 3,
                    "file-system": 0,
                    "hardware": 2,
                    "runtime-opaque": 0,
                    "storage-opaque": 0,
                    "sourced-data": 0,
                },
                "ear.appraisal-policy-id": "default",
                "ear.veraison.annotated-evidence": {
                    "tpm": evidence.token_claims,
                    "report_data": REPORT_DATA.hex(),
                    "init_data": extend(bytes(32), hashlib.sha256(DOCUMENT).digest()).hex(),
                    "init_data_claims": {"digest": digest},
                    "runtime_data_claims": {
                        "nonce": "bm9uY2U=",
                        "tee-pubkey": tee_pubkey,
                        "additional-evidence": "",
                    },
                },
            }
        },
        "tee-pubkey": tee_pubkey,
        "ccinit": {
            "session": "label",
            "tee": "tpm",
            "reference": "image-1",
            "image": GUEST.subject.image,
            "profile": "prod",
            "initdata_name": "shop",
            "initdata": digest,
            "devices": [],
            "basis": ["requirements snp sha256:11", "tpm sha256:00"],
        },
    }


def test_devices_are_in_the_token() -> None:
    said = '{"sampledevice":{"svn":"2"}}'
    device = AppraisedDevice(name="sampledevice", token_claims={"svn": "2"})
    evidence = replace(appraised(), devices=(device,), additional_evidence=said)
    guest = replace(GUEST, subject=evidence.subject)
    signer = TokenSigner(KEY, life_seconds=300, clock=lambda: 1_800_000_000)
    token = signer.sign(evidence, guest, Nonce("bm9uY2U="))
    assert signer.verify(token).subject.devices == {"sampledevice"}
    claims = json.loads(decode_base64url(token.split(".")[1], "claims"))
    evidence_of = "ear.veraison.annotated-evidence"
    assert claims["submods"]["gpu0"][evidence_of] == {"sampledevice": {"svn": "2"}}
    assert claims["submods"]["gpu0"]["ear.status"] == "none"
    assert claims["submods"]["gpu0"]["ear.appraisal-policy-id"] == "default"
    assert set(claims["submods"]["gpu0"]["ear.trustworthiness-vector"].values()) == {0}
    assert claims["submods"]["cpu0"]["ear.status"] == "affirming"
    assert claims["submods"]["cpu0"]["ear.trustworthiness-vector"]["executables"] > 0
    runtime = claims["submods"]["cpu0"][evidence_of]["runtime_data_claims"]
    assert runtime["additional-evidence"] == said


def test_token_verifies_by_rfc_7515_alone() -> None:
    header, claims, signature = sign().split(".")
    raw = decode_base64url(signature, "signature")
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    signed = f"{header}.{claims}".encode()
    KEY.public_key().verify(der, signed, ec.ECDSA(SHA256()))
    assert json.loads(decode_base64url(header, "header"))["alg"] == "ES256"
    assert json.loads(decode_base64url(claims, "claims"))["exp"] == 1_800_000_300


def test_key_set_has_the_key_that_the_header_names() -> None:
    header = json.loads(decode_base64url(sign().split(".")[0], "header"))
    (published,) = json.loads(TokenSigner(KEY, life_seconds=300).key_set())["keys"]
    assert published == header["jwk"] | {"use": "sig"}
    assert (published["kid"], published["alg"]) == (header["kid"], "ES256")
    assert "d" not in published


def test_token_of_another_form_is_refused() -> None:
    header, claims, signature = sign().split(".")
    for token in ("", header, f"{header}.{claims}", f"{header}.{claims}.{signature}.x"):
        assert reason_of(token) == "token.form"
    assert reason_of(f"{header}.{claims}.{signature}=") == "token.signature"
    assert reason_of(f"{header}.{claims}." + "A" * (1 << 20)) == "token.form"


def test_verify_refuses_expired_tokens() -> None:
    token = sign()
    assert verify(token, 1_800_000_299) == GUEST
    assert reason_of(token, 1_800_000_300) == "token.expired"


def test_token_of_a_clock_that_was_a_year_ahead_ends_with_the_mistake() -> None:
    token = sign(now=1_800_000_000 + 365 * 24 * 3600)
    assert reason_of(token) == "token.issued"
    assert verify(sign(now=1_800_000_060)) == GUEST  # a clock is set back by a moment at times
    assert reason_of(sign(now=1_800_000_061)) == "token.issued"


@pytest.fixture
def claims() -> dict[str, Any]:
    """Of a genuine token."""
    found = json.loads(decode_base64url(sign().split(".")[1], "claims"))
    assert isinstance(found, dict)
    return found


def signed(claims: object) -> str:
    """A token of ours with these claims."""
    text = f"{sign().split('.')[0]}.{encode_base64url(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(KEY.sign(text.encode(), ec.ECDSA(SHA256())))
    return f"{text}.{encode_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_token_that_does_not_say_what_it_stands_on_is_refused(claims: dict[str, Any]) -> None:
    assert verify(signed(claims)) == GUEST
    del claims["ccinit"]["basis"]
    assert reason_of(signed(claims)) == "token.ccinit.basis"


def test_token_with_a_guest_that_cannot_be_read_is_refused(claims: dict[str, Any]) -> None:
    guest = claims["ccinit"]
    more, odd = guest | {"more": 1}, guest | {"initdata": "sha512:00"}
    assert reason_of(signed(claims | {"ccinit": more})) == "token.ccinit.unknown"
    assert reason_of(signed(claims | {"ccinit": odd})) == "token.ccinit.initdata"


@pytest.mark.parametrize("issued", [None, "2027-01-15"])
def test_token_that_does_not_say_when_it_was_issued_is_refused(
    claims: dict[str, Any], issued: object
) -> None:
    assert reason_of(signed(claims | {"iat": issued})) == "token.issued"


def test_token_that_does_not_say_when_it_ends_is_refused(claims: dict[str, Any]) -> None:
    assert reason_of(signed([claims])) == "token.claims"
    assert reason_of(signed(claims | {"exp": "2100-01-01"})) == "token.expired"
    del claims["exp"]
    assert reason_of(signed(claims)) == "token.expired"


def test_signature_of_another_length_is_refused_unread() -> None:
    text, _, signature = sign().rpartition(".")
    for other in (b"", bytes(8), b"\0" + decode_base64url(signature, "x")):
        with pytest.raises(FormatError) as caught:
            verify(f"{text}.{encode_base64url(other)}")
        assert caught.value.detail == "not an ES256 signature"


def test_verify_refuses_another_key_even_if_the_header_brings_it() -> None:
    assert reason_of(sign(ec.generate_private_key(ec.SECP256R1()))) == "token.signature"


def test_verify_refuses_changed_claims_and_algorithms() -> None:
    header, claims, signature = sign().split(".")
    none = encode_base64url(json.dumps({"alg": "none"}).encode())
    profile = decode_base64url(claims, "x").replace(b'"profile":"prod"', b'"profile":"test"')
    for token in (
        f"{none}.{claims}.{signature}",
        f"{header}.{encode_base64url(profile)}.{signature}",
        f"{header}.{claims}.{encode_base64url(bytes(64))}",
        f"{header}.{claims}.{encode_base64url(bytes(8))}",
    ):
        assert reason_of(token) == "token.signature"
    assert reason_of(f"{none}.{claims}.") == "token.signature"


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c.d", "." * 100, "a." * 40_000])
def test_verify_refuses_what_is_no_token(token: str) -> None:
    assert reason_of(token) == "token.form"
