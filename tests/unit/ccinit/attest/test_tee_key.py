"""The ephemeral key, against RFC 7518 appendix C."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.attest.tee_key import TeeKey
from ccinit.formats.jwk import EcPublicJwk, parse_epk
from ccinit.formats.strict_json import decode_base64url

VECTOR = json.loads(Path("tests/vectors/jwe/rfc7518_c.json").read_text())


def recipient() -> TeeKey:
    scalar = int.from_bytes(decode_base64url(VECTOR["recipient"]["d"], "d"), "big")
    return TeeKey(ec.derive_private_key(scalar, ec.SECP256R1()))


def test_agreement_gives_the_vectors_secret() -> None:
    key = recipient()
    assert key.public_jwk == EcPublicJwk(
        x=decode_base64url(VECTOR["recipient"]["x"], "x"),
        y=decode_base64url(VECTOR["recipient"]["y"], "y"),
    )
    with key.agree(parse_epk(VECTOR["epk"])) as shared:
        assert shared.reveal().hex() == VECTOR["shared"]


def test_generated_keys_differ_and_agree() -> None:
    first, second = TeeKey.generate(), TeeKey.generate()
    assert first.public_jwk != second.public_jwk
    shared = first.agree(second.public_jwk).reveal()
    assert shared == second.agree(first.public_jwk).reveal()


def test_key_on_another_curve_is_a_bug() -> None:
    with pytest.raises(TypeError):
        TeeKey(ec.generate_private_key(ec.SECP384R1()))


def test_repr_says_nothing_about_the_key() -> None:
    assert repr(recipient()) == "TeeKey(P-256)"
