"""Opening a KBS's reply, and everything else refused; the RFCs' numbers are `test_jwe_vectors`'."""

import json
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from ccinit.attest import jwe as attest_jwe
from ccinit.attest.jwe import decrypt_jwe
from ccinit.attest.tee_key import EcTeeKey, RsaTeeKey, TeeKey
from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.strict_json import decode_base64url, encode_base64url
from ccinit.formats.kbs.release import MAX_ENCRYPTED_BYTES
from tests.fakes.kbs.jwe_headers import OTHER_CHOICES
from tests.vectors.jwe import make_vectors
from tests.vectors.jwe.make_vectors import PLAINTEXT, RECIPIENT, SENDER, Json, seal

VECTORS = Path("tests/vectors/jwe")
KEY = EcTeeKey(RECIPIENT)
GOOD: Json = json.loads((VECTORS / "flattened.json").read_text())
HEADER: Json = {
    "alg": "ECDH-ES+A256KW",
    "enc": "A256GCM",
    "epk": make_vectors.epk(SENDER.public_key()),
}
PARTS = ("encrypted_key", "iv", "ciphertext", "tag")
EPK = make_vectors.epk(SENDER.public_key())


@cache
def rsa_recipient() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def to_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def refused_reason(value: object) -> str:
    with pytest.raises((FormatError, VerificationError)) as refused:
        decrypt_jwe(to_bytes(value), KEY)
    return refused.value.reason


def test_reply_is_opened() -> None:
    assert decrypt_jwe(to_bytes(GOOD), KEY).reveal() == PLAINTEXT
    assert decrypt_jwe(to_bytes(seal(b"", RECIPIENT.public_key())), KEY).reveal() == b""


def test_header_is_authenticated_as_received() -> None:
    spaced = encode_base64url(json.dumps(HEADER, indent=1).encode())
    sealed = seal(PLAINTEXT, RECIPIENT.public_key(), protected=spaced)
    assert decrypt_jwe(to_bytes(sealed), KEY).reveal() == PLAINTEXT
    compact = encode_base64url(json.dumps(HEADER, separators=(",", ":")).encode())
    assert refused_reason({**sealed, "protected": compact}) == "jwe.decrypt"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *OTHER_CHOICES,
        pytest.param({"alg": "ECDH-ES"}, "jwe.alg", id="ECDH-ES"),
        pytest.param({"alg": "ECDH-ES+A128KW"}, "jwe.alg", id="A128KW"),
        pytest.param({"alg": "ecdh-es+a256kw"}, "jwe.alg", id="lower case"),
        pytest.param({"alg": ["ECDH-ES+A256KW"]}, "jwe.alg", id="array"),
        pytest.param({"enc": None}, "jwe.enc", id="no enc"),
        pytest.param({"jwk": EPK}, "jwe.header.members", id="jwk"),
        pytest.param({"apu": "QWxpY2U"}, "jwe.header.members", id="apu"),
        pytest.param({"epk": None}, "jwk.type", id="no epk"),
        pytest.param({"epk": {**EPK, "crv": "P-521"}}, "jwk.crv", id="another curve"),
        pytest.param({"epk": {**EPK, "kty": "OKP"}}, "jwk.kty", id="another type"),
        pytest.param({"epk": {**EPK, "d": EPK["x"]}}, "jwk.members", id="private epk"),
        pytest.param({"epk": {**EPK, "x": EPK["y"]}}, "jwk.point", id="off the curve"),
        pytest.param({"epk": {**EPK, "x": "A" * 43, "y": "A" * 43}}, "jwk.point", id="at infinity"),
        pytest.param(
            {"epk": {**EPK, "x": encode_base64url(bytes(33))}}, "jwk.coordinate", id="long x"
        ),
        pytest.param(
            {"epk": {**EPK, "y": encode_base64url(bytes(31))}}, "jwk.coordinate", id="short y"
        ),
    ],
)
def test_r26_header_with_another_choice_is_refused_before_any_decryption(
    monkeypatch: pytest.MonkeyPatch, change: Json, reason: str
) -> None:
    sealed = seal(PLAINTEXT, RECIPIENT.public_key(), header={**HEADER})
    assert decrypt_jwe(to_bytes(sealed), KEY).reveal() == PLAINTEXT
    changed = seal(PLAINTEXT, RECIPIENT.public_key(), header={**HEADER, **change})
    monkeypatch.setattr(attest_jwe, "concat_kdf", None)  # a call would be a TypeError
    assert refused_reason(changed) == reason


@pytest.mark.parametrize("member", ["aad", "header", "unprotected", "recipients"])
def test_reply_with_a_further_member_is_refused(member: str) -> None:
    assert refused_reason({**GOOD, member: {"alg": "dir"}}) == "jwe.members"


@pytest.mark.parametrize("member", sorted(GOOD))
def test_reply_without_a_member_or_with_another_type_is_refused(member: str) -> None:
    less = {name: value for name, value in GOOD.items() if name != member}
    assert refused_reason(less) == "jwe.members"
    for value in (None, 5, "not base64url!", "AA=="):
        assert refused_reason({**GOOD, member: value}) == f"jwe.{member}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "jwe.header.type"),
        (b"{", "jwe.header.json"),
        (b'{"alg": "ECDH-ES+A256KW", "alg": "dir"}', "jwe.header.duplicate"),
        (b" " * 5000, "jwe.header.length"),
    ],
)
def test_header_that_is_no_plain_object_is_refused(text: bytes, reason: str) -> None:
    assert refused_reason({**GOOD, "protected": encode_base64url(text)}) == reason


def test_reply_that_is_no_object_is_refused() -> None:
    assert refused_reason([]) == "jwe.type"
    with pytest.raises(FormatError) as refused:
        decrypt_jwe(b"a.b.c.d.e", KEY)
    assert refused.value.reason == "jwe.json"
    with pytest.raises(FormatError) as refused:
        decrypt_jwe(b"{}".rjust(MAX_ENCRYPTED_BYTES + 1), KEY)
    assert refused.value.reason == "jwe.length"


def test_reply_for_another_key_is_refused() -> None:
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes(GOOD), EcTeeKey.generate())
    assert refused.value.reason == "jwe.decrypt"


@pytest.fixture(scope="module")
def keys() -> dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]:
    """One private key of each kind that a guest can offer."""
    return {
        "P-256": RECIPIENT,
        "P-521": make_vectors.private_key(b"recipient", ec.SECP521R1()),
        "RSA": rsa_recipient(),
    }


def tee_key(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> TeeKey:
    if isinstance(private, rsa.RSAPrivateKey):
        return RsaTeeKey(private)
    return EcTeeKey(private)


REASONS = {  # what a key of the first kind says to a reply for the second
    ("P-256", "P-521"): "jwk.crv",
    ("P-521", "P-256"): "jwk.crv",
    ("P-256", "RSA"): "jwe.alg",
    ("P-521", "RSA"): "jwe.alg",
    ("RSA", "P-256"): "jwe.alg",
    ("RSA", "P-521"): "jwe.alg",
}


@pytest.mark.parametrize("ours", ["P-256", "P-521", "RSA"])
@pytest.mark.parametrize("theirs", ["P-256", "P-521", "RSA"])
def test_r26_only_the_algorithm_of_the_offered_key_is_accepted(
    keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey], ours: str, theirs: str
) -> None:
    sealed = seal(PLAINTEXT, keys[theirs].public_key())
    if ours == theirs:
        assert decrypt_jwe(to_bytes(sealed), tee_key(keys[ours])).reveal() == PLAINTEXT
        return
    with pytest.raises(FormatError) as refused:
        decrypt_jwe(to_bytes(sealed), tee_key(keys[ours]))
    assert refused.value.reason == REASONS[ours, theirs]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *(choice for choice in OTHER_CHOICES if choice.id != "RSA-OAEP-256"),
        pytest.param({"alg": "RSA-OAEP"}, "jwe.alg", id="OAEP with SHA-1"),
        pytest.param({"alg": "RSA-OAEP-512"}, "jwe.alg", id="OAEP with SHA-512"),
        pytest.param({"enc": "A128CBC-HS256"}, "jwe.enc", id="A128CBC-HS256"),
        pytest.param({"epk": EPK}, "jwe.header.members", id="epk"),
    ],
)
def test_r26_reply_to_an_rsa_key_with_another_choice_is_refused_before_any_decryption(
    keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey],
    monkeypatch: pytest.MonkeyPatch,
    change: Json,
    reason: str,
) -> None:
    key, public = tee_key(keys["RSA"]), keys["RSA"].public_key()
    header: Json = {"alg": "RSA-OAEP-256", "enc": "A256GCM"}
    good = seal(PLAINTEXT, public, header=header)
    assert decrypt_jwe(to_bytes(good), key).reveal() == PLAINTEXT
    monkeypatch.setattr(RsaTeeKey, "decrypt", None)  # a call would be a TypeError
    with pytest.raises(FormatError) as refused:
        decrypt_jwe(to_bytes(seal(PLAINTEXT, public, header={**header, **change})), key)
    assert refused.value.reason == reason


@given(data=st.data())
def test_r28_flipped_bit_in_a_reply_to_an_rsa_key_is_the_same_refusal(data: st.DataObject) -> None:
    private = rsa_recipient()
    good = seal(PLAINTEXT, private.public_key())
    part = data.draw(st.sampled_from(PARTS))
    raw = bytearray(decode_base64url(str(good[part]), part))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes({**good, part: encode_base64url(bytes(raw))}), RsaTeeKey(private))
    assert str(refused.value) == "jwe.decrypt: the reply does not decrypt"
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("length", range(16))
def test_r28_ciphertext_of_a_few_bytes_is_the_same_refusal(length: int) -> None:
    assert refused_reason({**GOOD, "ciphertext": encode_base64url(bytes(length))}) == "jwe.decrypt"


@given(part=st.sampled_from(PARTS), data=st.data())
def test_r28_any_flipped_bit_is_the_same_refusal(part: str, data: st.DataObject) -> None:
    raw = bytearray(decode_base64url(str(GOOD[part]), part))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes({**GOOD, part: encode_base64url(bytes(raw))}), KEY)
    assert str(refused.value) == "jwe.decrypt: the reply does not decrypt"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@given(part=st.sampled_from(PARTS), value=st.binary(max_size=80))
def test_r28_any_other_part_is_the_same_refusal(part: str, value: bytes) -> None:
    if encode_base64url(value) == GOOD[part]:
        return
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes({**GOOD, part: encode_base64url(value)}), KEY)
    assert str(refused.value) == "jwe.decrypt: the reply does not decrypt"
