"""Opening a KBS's reply: the RFCs' numbers, and everything else refused."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hypothesis import given
from hypothesis import strategies as st

from ccinit.attest import jwe as attest_jwe
from ccinit.attest.jwe import concat_kdf, decrypt_content, decrypt_jwe
from ccinit.attest.tee_key import TeeKey
from ccinit.errors import FormatError, VerificationError
from ccinit.formats.strict_json import decode_base64url, encode_base64url
from tests.vectors.jwe import make_vectors
from tests.vectors.jwe.make_vectors import PLAINTEXT, RECIPIENT, SENDER, Json, seal

VECTORS = Path("tests/vectors/jwe")
KEY = TeeKey(RECIPIENT)
GOOD: Json = json.loads((VECTORS / "flattened.json").read_text())
HEADER: Json = {
    "alg": "ECDH-ES+A256KW",
    "enc": "A256GCM",
    "epk": make_vectors.epk(SENDER.public_key()),
}
EPK = make_vectors.epk(SENDER.public_key())


def to_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def refused_reason(value: object) -> str:
    with pytest.raises((FormatError, VerificationError)) as refused:
        decrypt_jwe(to_bytes(value), KEY)
    return refused.value.reason


def vector(name: str) -> dict[str, str]:
    value: dict[str, str] = json.loads((VECTORS / name).read_text())
    return value


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


def test_key_unwrap_is_that_of_rfc_3394() -> None:
    example = vector("rfc3394_4_6.json")
    wrapped = bytes.fromhex(example["wrapped"])
    key = bytes.fromhex(example["wrapping_key"])
    assert aes_key_unwrap(key, wrapped).hex() == example["key_data"]


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
        pytest.param({"alg": "RSA1_5"}, "jwe.alg", id="RSA1_5"),
        pytest.param({"alg": "RSA-OAEP-256"}, "jwe.alg", id="RSA-OAEP-256"),
        pytest.param({"alg": "dir"}, "jwe.alg", id="dir"),
        pytest.param({"alg": "none"}, "jwe.alg", id="none"),
        pytest.param({"alg": "ECDH-ES"}, "jwe.alg", id="ECDH-ES"),
        pytest.param({"alg": "ECDH-ES+A128KW"}, "jwe.alg", id="A128KW"),
        pytest.param({"alg": "ecdh-es+a256kw"}, "jwe.alg", id="lower case"),
        pytest.param({"alg": ["ECDH-ES+A256KW"]}, "jwe.alg", id="array"),
        pytest.param({"enc": "A128GCM"}, "jwe.enc", id="A128GCM"),
        pytest.param({"enc": "A256CBC-HS512"}, "jwe.enc", id="A256CBC-HS512"),
        pytest.param({"enc": None}, "jwe.enc", id="no enc"),
        pytest.param({"zip": "DEF"}, "jwe.header.members", id="zip"),
        pytest.param({"crit": ["exp"]}, "jwe.header.members", id="crit"),
        pytest.param({"jku": "https://host/keys"}, "jwe.header.members", id="jku"),
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
def test_header_with_another_choice_is_refused_before_any_decryption(
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
        decrypt_jwe(b" " * (1 << 20) + b"{}", KEY)
    assert refused.value.reason == "jwe.length"


def test_reply_for_another_key_is_refused() -> None:
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes(GOOD), TeeKey.generate())
    assert refused.value.reason == "jwe.decrypt"


PARTS = ("encrypted_key", "iv", "ciphertext", "tag")


@given(part=st.sampled_from(PARTS), data=st.data())
def test_any_flipped_bit_is_the_same_refusal(part: str, data: st.DataObject) -> None:
    raw = bytearray(decode_base64url(str(GOOD[part]), part))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes({**GOOD, part: encode_base64url(bytes(raw))}), KEY)
    assert str(refused.value) == "jwe.decrypt: the reply does not decrypt"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@given(part=st.sampled_from(PARTS), value=st.binary(max_size=80))
def test_any_other_part_is_the_same_refusal(part: str, value: bytes) -> None:
    if encode_base64url(value) == GOOD[part]:
        return
    with pytest.raises(VerificationError) as refused:
        decrypt_jwe(to_bytes({**GOOD, part: encode_base64url(value)}), KEY)
    assert str(refused.value) == "jwe.decrypt: the reply does not decrypt"
