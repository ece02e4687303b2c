"""The ephemeral key, against RFC 7518 appendix C."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ccinit.attest.tee_key import EcTeeKey, RsaTeeKey, generate_tee_key
from ccinit.formats.encoding.strict_json import decode_base64url
from ccinit.formats.kbs.jwk import (
    P256,
    P521,
    Curve,
    EcPublicJwk,
    RsaPublicJwk,
    TeeKeyAlgorithm,
    parse_epk,
)

VECTOR = json.loads(Path("tests/vectors/jwe/rfc7518_c.json").read_text())


def recipient() -> EcTeeKey:
    scalar = int.from_bytes(decode_base64url(VECTOR["recipient"]["d"], "d"), "big")
    return EcTeeKey(ec.derive_private_key(scalar, ec.SECP256R1()))


def test_agreement_gives_the_vectors_secret() -> None:
    key = recipient()
    assert key.public_jwk == EcPublicJwk(
        x=decode_base64url(VECTOR["recipient"]["x"], "x"),
        y=decode_base64url(VECTOR["recipient"]["y"], "y"),
    )
    with key.agree(parse_epk(VECTOR["epk"], P256)) as shared:
        assert shared.reveal().hex() == VECTOR["shared"]


@pytest.mark.parametrize("curve", [P256, P521], ids=lambda curve: curve.name)
def test_generated_keys_differ_and_agree(curve: Curve) -> None:
    first, second = EcTeeKey.generate(curve), EcTeeKey.generate(curve)
    assert first.public_jwk != second.public_jwk
    shared = first.agree(second.public_jwk).reveal()
    assert shared == second.agree(first.public_jwk).reveal()


def test_key_on_another_curve_is_a_bug() -> None:
    with pytest.raises(TypeError):
        EcTeeKey(ec.generate_private_key(ec.SECP384R1()))


def test_repr_says_nothing_about_the_key() -> None:
    assert repr(recipient()) == "EcTeeKey(P-256)"
    assert repr(RsaTeeKey.generate()) == "RsaTeeKey(2048)"


def test_agreement_across_curves_is_a_bug() -> None:
    with pytest.raises(TypeError):
        EcTeeKey.generate(P256).agree(EcTeeKey.generate(P521).public_jwk)


def test_rsa_key_with_another_exponent_is_a_bug() -> None:
    with pytest.raises(TypeError):
        RsaTeeKey(rsa.generate_private_key(public_exponent=3, key_size=2048))


def test_every_algorithm_has_its_kind_of_key() -> None:
    kinds = {}
    for algorithm in TeeKeyAlgorithm:
        key = generate_tee_key(algorithm).public_jwk
        kinds[algorithm] = key.curve.name if isinstance(key, EcPublicJwk) else type(key)
    assert kinds == {
        TeeKeyAlgorithm.P256: "P-256",
        TeeKeyAlgorithm.P521: "P-521",
        TeeKeyAlgorithm.RSA_OAEP_256: RsaPublicJwk,
    }
