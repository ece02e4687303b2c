"""Public keys in the two shapes that travel."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue, encode_base64url
from ccinit.formats.kbs.jwk import (
    P256,
    P521,
    EcPublicJwk,
    RsaPublicJwk,
    parse_epk,
    parse_jwk,
)

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
    assert isinstance(key, EcPublicJwk)
    assert key.to_json_object() == JWK
    epk = {member: value for member, value in JWK.items() if member != "alg"}
    assert parse_epk(epk, P256) == key
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
        pytest.param({"kty": "OKP"}, "jwk.kty", id="another type"),
        pytest.param({"kty": "RSA"}, "jwk.alg", id="a type of another algorithm"),
        pytest.param({"crv": "P-521"}, "jwk.coordinate", id="the other curve's length"),
        pytest.param({"crv": ["P-256"]}, "jwk.crv", id="curve in an array"),
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
        parse_epk(JWK, P256)
    assert refused.value.reason == "jwk.members"


def test_p521_key_keeps_its_leading_zeros() -> None:
    numbers = ec.derive_private_key(2, ec.SECP521R1()).public_key().public_numbers()
    key = EcPublicJwk(x=numbers.x.to_bytes(66, "big"), y=numbers.y.to_bytes(66, "big"), curve=P521)
    assert key.x[0] == 0
    value = key.to_json_object()
    assert (value["crv"], len(value["x"]), len(value["y"])) == ("P-521", 88, 88)
    assert parse_jwk(dict(value)) == key
    with pytest.raises(FormatError) as refused:
        parse_epk(dict(key.to_epk_object()), P256)
    assert refused.value.reason == "jwk.crv"


@pytest.mark.parametrize("name", ["x", "y"])
def test_coordinate_that_is_not_reduced_is_refused_though_the_curve_has_the_point(
    name: str,
) -> None:
    """66 bytes have room for a coordinate of P-521 and its prime."""
    numbers = ec.derive_private_key(2, ec.SECP521R1()).public_key().public_numbers()
    given = {"x": numbers.x, "y": numbers.y}
    EcPublicJwk(**{one: at.to_bytes(66, "big") for one, at in given.items()}, curve=P521)
    given[name] += P521.prime
    with pytest.raises(FormatError) as refused:
        EcPublicJwk(**{one: at.to_bytes(66, "big") for one, at in given.items()}, curve=P521)
    assert refused.value.reason == "jwk.point"


MODULUS = bytes([0x80, *range(1, 255), 0xFF])
RSA: dict[str, JsonValue] = {
    "alg": "RSA-OAEP-256",
    "kty": "RSA",
    "n": encode_base64url(MODULUS),
    "e": "AQAB",
}


def test_rsa_jwk_round_trip() -> None:
    key = parse_jwk(RSA)
    assert key == RsaPublicJwk(modulus=MODULUS)
    assert key.to_json_object() == RSA
    longest = RsaPublicJwk(modulus=MODULUS * 2)
    assert parse_jwk(dict(longest.to_json_object())) == longest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"alg": "RSA1_5"}, "jwk.alg", id="RSA1_5"),
        pytest.param({"alg": "RSA-OAEP"}, "jwk.alg", id="OAEP with SHA-1"),
        pytest.param({"e": "Aw"}, "jwk.e", id="exponent 3"),
        pytest.param({"d": "AQAB"}, "jwk.members", id="a private key"),
        pytest.param({"n": "AQAB"}, "jwk.modulus", id="short"),
        pytest.param({"n": encode_base64url(MODULUS[:-1] + b"\xfe")}, "jwk.modulus", id="even"),
        pytest.param({"n": encode_base64url(b"\0" + MODULUS)}, "jwk.modulus", id="leading zero"),
        pytest.param({"n": encode_base64url(MODULUS * 3)}, "jwk.modulus", id="long"),
        pytest.param({"n": encode_base64url(MODULUS) + "="}, "jwk.n", id="padded"),
        pytest.param({"n": ""}, "jwk.modulus", id="empty"),
    ],
)
def test_rsa_jwk_with_one_wrong_member_is_refused(
    change: dict[str, JsonValue], reason: str
) -> None:
    parse_jwk(RSA)
    with pytest.raises(FormatError) as refused:
        parse_jwk({**RSA, **change})
    assert refused.value.reason == reason
