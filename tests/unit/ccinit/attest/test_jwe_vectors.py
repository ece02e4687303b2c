"""Published cases for each step of opening a reply: Wycheproof, NIST and the RFCs.

Each goes through the function that the product uses. What must fail fails by our own reason; where
a set has the good cases beside the bad ones, both go through the same lines.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from ccinit.attest.jwe import decrypt_content, unwrap_key
from ccinit.attest.tee_key import EcTeeKey, RsaTeeKey
from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.strict_json import decode_base64url, encode_base64url
from ccinit.formats.kbs.concat_kdf import concat_kdf
from ccinit.formats.kbs.jwk import P256, P521, Curve, EcPublicJwk, parse_epk, parse_jwk

VECTORS = Path("tests/vectors/jwe")
CURVES: dict[str, tuple[Curve, ec.EllipticCurve]] = {
    "p256": (P256, ec.SECP256R1()),
    "p521": (P521, ec.SECP521R1()),
}
ECDH = {name: json.loads((VECTORS / f"wycheproof_ecdh_{name}.json").read_text()) for name in CURVES}
GCM = json.loads((VECTORS / "wycheproof_aes_gcm.json").read_text())
OAEP = json.loads((VECTORS / "wycheproof_rsa_oaep.json").read_text())
KEY_WRAP = json.loads((VECTORS / "nist_kw_256.json").read_text())

Case = dict[str, Any]


def vector(name: str) -> dict[str, str]:
    value: dict[str, str] = json.loads((VECTORS / name).read_text())
    return value


def case_id(case: Case) -> str:
    return f"{case['tcId']} {case['comment'] or case['flags'][0]}"


def agree(name: str, case: Case) -> str:
    """The shared secret as a guest with the case's private key finds it for the case's epk."""
    curve, cipher_curve = CURVES[name]
    scalar = int.from_bytes(decode_base64url(case["private"]["d"], "d"), "big")
    key = EcTeeKey(ec.derive_private_key(scalar, cipher_curve))
    epk = {member: text for member, text in case["public"].items() if member != "kid"}
    with key.agree(parse_epk(epk, curve)) as shared:
        return shared.reveal().hex()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name} {case_id(case)}")
        for name, cases in ECDH.items()
        for case in cases
        if case["result"] == "valid"
    ],
)
def test_agreement_gives_the_published_secret(name: str, case: Case) -> None:
    assert agree(name, case) == case["shared"]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name} {case_id(case)}")
        for name, cases in ECDH.items()
        for case in cases
        if case["result"] == "invalid"
    ],
)
def test_r27_published_attack_on_the_ephemeral_key_is_refused(name: str, case: Case) -> None:
    with pytest.raises(FormatError) as refused:
        agree(name, case)
    is_other_curve = case["public"]["crv"] != CURVES[name][0].name
    assert refused.value.reason == ("jwk.crv" if is_other_curve else "jwk.point")


def test_every_published_ecdh_case_is_valid_or_an_attack() -> None:
    for cases in ECDH.values():
        assert {case["result"] for case in cases} == {"valid", "invalid"}


@pytest.mark.parametrize("curve", [P256, P521], ids=lambda curve: curve.name)
@pytest.mark.parametrize("extra", [-1, 1], ids=["short", "long"])
def test_r27_coordinate_of_another_length_is_refused(curve: Curve, extra: int) -> None:
    good = EcTeeKey.generate(curve).public_jwk
    assert parse_epk(dict(good.to_epk_object()), curve) == good
    size = curve.coordinate_bytes + extra
    for member in ("x", "y"):
        value = {**good.to_epk_object(), member: encode_base64url(bytes(size))}
        with pytest.raises(FormatError) as refused:
            parse_epk(dict(value), curve)
        assert refused.value.reason == "jwk.coordinate"


@pytest.mark.parametrize("curve", [P256, P521], ids=lambda curve: curve.name)
def test_r27_point_at_infinity_has_no_accepted_form(curve: Curve) -> None:
    zero = bytes(curve.coordinate_bytes)
    for x, y in ((zero, zero), (zero, zero[:-1] + b"\x01"), (b"", b"")):
        with pytest.raises(FormatError) as refused:
            EcPublicJwk(x=x, y=y, curve=curve)
        assert refused.value.reason == ("jwk.point" if x else "jwk.coordinate")


@pytest.mark.parametrize("case", GCM, ids=case_id)
def test_content_decryption_decides_as_published(case: Case) -> None:
    part = {name: bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")}

    def decrypt() -> bytes:
        return decrypt_content(
            part["key"],
            iv=part["iv"],
            ciphertext=part["ct"],
            tag=part["tag"],
            additional_data=part["aad"],
        ).reveal()

    # RFC 7518 section 5.3 fixes an IV of 96 bits; every other length is refused unused.
    if case["result"] == "valid" and len(part["iv"]) == 12:
        assert decrypt() == part["msg"]
        return
    with pytest.raises(VerificationError) as refused:
        decrypt()
    assert refused.value.reason == "jwe.decrypt"


def test_content_decryption_is_that_of_rfc_7516() -> None:
    example = vector("rfc7516_a1.json")
    plaintext = decrypt_content(
        bytes.fromhex(example["content_key"]),
        iv=decode_base64url(example["iv"], "iv"),
        ciphertext=decode_base64url(example["ciphertext"], "ciphertext"),
        tag=decode_base64url(example["tag"], "tag"),
        additional_data=example["protected"].encode(),
    )
    assert plaintext.reveal().decode() == example["plaintext"]


def test_concat_kdf_is_that_of_rfc_7518() -> None:
    example = vector("rfc7518_c.json")
    derived = concat_kdf(
        bytes.fromhex(example["shared"]),
        example["algorithm"],
        16,
        party_u=example["party_u"].encode(),
        party_v=example["party_v"].encode(),
    )
    assert encode_base64url(derived) == example["derived"]


def test_key_unwrap_is_that_of_rfc_3394() -> None:
    example = vector("rfc3394_4_6.json")
    wrapped = bytes.fromhex(example["wrapped"])
    key = bytes.fromhex(example["wrapping_key"])
    assert unwrap_key(key, wrapped).reveal().hex() == example["key_data"]


@pytest.mark.parametrize("case", KEY_WRAP, ids=lambda case: case["key"][:8])
def test_key_unwrap_decides_as_published(case: Case) -> None:
    key, wrapped = bytes.fromhex(case["key"]), bytes.fromhex(case["wrapped"])
    if case["data"] is not None:
        assert unwrap_key(key, wrapped).reveal().hex() == case["data"]
        return
    with pytest.raises(VerificationError) as refused:
        unwrap_key(key, wrapped)
    assert refused.value.reason == "jwe.decrypt"


@pytest.mark.parametrize("length", [0, 8, 16, 23, 39, 41])
def test_key_unwrap_of_another_length_is_refused(length: int) -> None:
    case = KEY_WRAP[0]
    wrapped = bytes.fromhex(case["wrapped"])
    assert len(wrapped) == 40
    with pytest.raises(VerificationError) as refused:
        unwrap_key(bytes.fromhex(case["key"]), (wrapped + wrapped)[:length])
    assert refused.value.reason == "jwe.decrypt"


@pytest.fixture(scope="module")
def rsa_key() -> RsaTeeKey:
    private = load_der_private_key(bytes.fromhex(OAEP["privateKeyPkcs8"]), password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return RsaTeeKey(private)


@pytest.mark.parametrize("case", OAEP["tests"], ids=case_id)
def test_rsa_oaep_decides_as_published(rsa_key: RsaTeeKey, case: Case) -> None:
    # RFC 7518 section 4.3 has no label: a ciphertext with one does not decrypt.
    if case["result"] == "valid" and not case["label"]:
        assert rsa_key.decrypt(bytes.fromhex(case["ct"])).reveal().hex() == case["msg"]
        return
    with pytest.raises(VerificationError) as refused:
        rsa_key.decrypt(bytes.fromhex(case["ct"]))
    assert str(refused.value) == "jwe.decrypt: the reply does not decrypt"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_rsa_jwk_is_that_of_rfc_7638() -> None:
    example = vector("rfc7638_3_1.json")
    key = parse_jwk({"alg": "RSA-OAEP-256", "kty": "RSA", "n": example["n"], "e": example["e"]})
    assert encode_base64url(key.thumbprint()) == example["thumbprint"]
