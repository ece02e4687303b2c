"""P-256 keys in the two shapes that travel."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.errors import FormatError
from ccinit.formats.jwk import EcPublicJwk, parse_epk, parse_jwk
from ccinit.formats.strict_json import JsonValue, encode_base64url

# RFC 7515 appendix A.3
X = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
Y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
JWK: dict[str, JsonValue] = {
    "alg": "ECDH-ES+A256KW",
    "crv": "P-256",
    "kty": "EC",
    "x": X,
    "y": Y,
}
PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1


def coordinate(value: int) -> str:
    return encode_base64url(value.to_bytes(32, "big"))


def test_jwk_round_trip() -> None:
    key = parse_jwk(JWK)
    assert key.to_json_object() == JWK
    epk = {member: value for member, value in JWK.items() if member != "alg"}
    assert parse_epk(epk) == key
    assert key.to_epk_object() == epk


def test_every_generated_key_is_on_the_curve_with_padded_coordinates() -> None:
    # derive_private_key(n) for small n includes points whose coordinates begin with zeros
    for scalar in range(1, 300):
        numbers = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers()
        key = EcPublicJwk(x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))
        assert parse_jwk(dict(key.to_json_object())) == key


def test_thumbprint_is_that_of_the_required_members() -> None:
    # SHA-256 of {"crv":"P-256","kty":"EC","x":…,"y":…}, by OpenSSL
    assert (
        parse_jwk(JWK).thumbprint().hex()
        == "a0a232c2f194a53553cb1310ddbc0821e414b9d7ebfc290b323084d7d1020fe5"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"kty": "RSA"}, "jwk.kty", id="another type"),
        pytest.param({"crv": "P-384"}, "jwk.crv", id="another curve"),
        pytest.param({"alg": "ECDH-ES"}, "jwk.alg", id="another algorithm"),
        pytest.param({"alg": None}, "jwk.alg", id="null algorithm"),
        pytest.param({"d": X}, "jwk.members", id="a private key"),
        pytest.param({"x": X + "="}, "jwk.x", id="padded"),
        pytest.param({"x": 1}, "jwk.x", id="number"),
        pytest.param({"x": encode_base64url(bytes(33))}, "jwk.coordinate", id="long"),
        pytest.param({"y": encode_base64url(bytes(31))}, "jwk.coordinate", id="short"),
        pytest.param({"x": Y, "y": X}, "jwk.point", id="off the curve"),
        pytest.param({"x": coordinate(0), "y": coordinate(0)}, "jwk.point", id="zero"),
        pytest.param({"x": coordinate(PRIME)}, "jwk.point", id="not reduced"),
    ],
)
def test_jwk_with_one_wrong_member_is_refused(change: dict[str, JsonValue], reason: str) -> None:
    parse_jwk(JWK)
    with pytest.raises(FormatError) as refused:
        parse_jwk({**JWK, **change})
    assert refused.value.reason == reason


def test_jwk_that_is_no_object_or_lacks_a_coordinate_is_refused() -> None:
    without_y = {member: value for member, value in JWK.items() if member != "y"}
    for value, reason in (("text", "jwk.type"), (without_y, "jwk.members"), (None, "jwk.type")):
        with pytest.raises(FormatError) as refused:
            parse_jwk(value)
        assert refused.value.reason == reason


def test_epk_with_an_algorithm_is_refused() -> None:
    with pytest.raises(FormatError) as refused:
        parse_epk(JWK)
    assert refused.value.reason == "jwk.members"
