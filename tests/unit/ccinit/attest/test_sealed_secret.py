"""Who vouches for the name of a sealed secret."""

import pytest

from ccinit.attest.sealed_secret import verify_sealed_secret
from ccinit.errors import CcinitError
from ccinit.formats.kbs.sealed_secret import parse_sealed_secret
from ccinit.values import replace
from tests.fakes.kbs.sealed_secrets import jwk, seal

SEALED = parse_sealed_secret(seal(), "secret")


def reason(key: bytes, sealed: object = SEALED) -> str:
    with pytest.raises(CcinitError) as error:
        verify_sealed_secret(sealed, key)  # type: ignore[arg-type]
    return error.value.reason


@pytest.mark.parametrize("key", [jwk(), jwk(kid="x", use="sig"), jwk(key_ops=["verify"])])
def test_signature_by_the_named_key_is_good(key: bytes) -> None:
    verify_sealed_secret(SEALED, key)


def test_signature_by_another_key_or_of_another_text_is_refused() -> None:
    assert reason(jwk("stranger")) == "sealed_secret.signature"
    assert reason(jwk(), replace(SEALED, signed=SEALED.signed + b"x")) == "sealed_secret.signature"
    stranger = parse_sealed_secret(seal(signed_by="stranger"), "secret")
    assert reason(jwk(), stranger) == "sealed_secret.signature"
    assert reason(jwk(), replace(SEALED, signature=bytes(64))) == "sealed_secret.signature"


@pytest.mark.parametrize(
    "key",
    [
        jwk(d="AA"),
        jwk(crv="P-384"),
        jwk(kty="OKP"),
        jwk(alg="ES384"),
        jwk(x="AA"),
        jwk(use="enc"),
        jwk(key_ops=["deriveBits"]),
        jwk(key_ops="verify"),
        b"{}",
        b"[]",
    ],
)
def test_key_of_another_kind_is_refused(key: bytes) -> None:
    assert reason(key) in {"sealed_secret.key", "jwk.coordinate"}


def test_key_that_is_no_point_is_refused() -> None:
    assert reason(jwk(y="A" * 43)) == "jwk.point"
