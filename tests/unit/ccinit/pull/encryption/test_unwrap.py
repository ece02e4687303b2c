"""Wraps that other tools made are opened by the right key, and by no other."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding import wire
from ccinit.formats.oci.layer_encryption import (
    KeyWrap,
    LayerKey,
    WrapScheme,
    parse_key_packet,
    parse_layer_encryption,
)
from ccinit.pull.encryption.unwrap import load_private_key, unwrap_job
from ccinit.pull.messages.layers import UnwrappedKey, UnwrapReply, UnwrapRequest, WrappedKey
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import (
    KEK,
    KEY,
    NONCE,
    PREFIX,
    Json,
    b64,
    ctr,
    packet,
    private_options,
)

VECTORS = Path("tests/vectors/layer_encryption")
SKOPEO = json.loads((VECTORS / "skopeo.json").read_text())
SAMPLE = json.loads((VECTORS / "coco_sample.json").read_text())


class Channel:
    def __init__(self, key: bytes) -> None:
        self.key = key

    def read_secret(self, name: str) -> Secret:
        assert name == "key"
        return Secret(self.key)


def unwrap(key: bytes, *wraps: KeyWrap) -> UnwrapReply:
    request = UnwrapRequest(
        wrapped=tuple(WrappedKey(position=3, wrap=wrap, nonce=b"") for wrap in wraps)
    )
    assert wire.decode(UnwrapRequest, wire.encode(request)) == request
    return unwrap_job(request, Channel(key))


def refusal(key: bytes, *wraps: KeyWrap) -> str:
    with pytest.raises(CcinitError) as refused:
        unwrap(key, *wraps)
    return refused.value.reason


def skopeo_wrap(label: str, scheme: str = "jwe") -> KeyWrap:
    annotations = SKOPEO["wraps"][label]
    found = parse_layer_encryption(
        {
            f"{PREFIX}pubopts": annotations["pubopts"],
            f"{PREFIX}keys.{scheme}": annotations[scheme],
        }
    )
    (wrap,) = found.wraps
    return wrap


def packet_wrap(value: Json) -> KeyWrap:
    data = json.dumps(value).encode()
    return KeyWrap(scheme=WrapScheme.PROVIDER, data=data, kek=parse_key_packet(data).kek)


def skopeo_key(name: str) -> bytes:
    key: str = SKOPEO["keys"][name]
    return key.encode()


@pytest.mark.parametrize(
    ("label", "scheme", "key"),
    [
        ("rsa", "jwe", "rsa"),
        ("p256", "jwe", "p256"),
        ("p521", "jwe", "p521"),
        ("two", "jwe", "rsa"),
        ("two", "jwe", "p256"),
        ("pkcs7", "pkcs7", "rsa"),
    ],
)
def test_wrap_by_skopeo_is_opened_by_its_key_only(label: str, scheme: str, key: str) -> None:
    wrap = skopeo_wrap(label, scheme)
    (found,) = unwrap(skopeo_key(key), wrap).keys
    assert found.position == 3
    assert (len(found.key.key), len(found.key.nonce)) == (32, 16)
    for stranger in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
    ):
        pem = stranger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert unwrap(pem, wrap).keys == ()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_private_key_may_have_any_usual_form(encoding: Encoding, form: PrivateFormat) -> None:
    key = load_private_key(skopeo_key("rsa"))
    data = key.private_bytes(encoding, form, NoEncryption())
    assert len(unwrap(data, skopeo_wrap("rsa")).keys) == 1


def test_sample_packet_of_coco_is_opened() -> None:
    (found,) = unwrap(bytes.fromhex(SAMPLE["kek"]), packet_wrap(SAMPLE["packet"])).keys
    assert b64(found.key.key).startswith("1jL2jJV0")
    assert b64(found.key.nonce).startswith("r10F9oaC")


def test_packets_of_both_ciphers_are_opened() -> None:
    iv = b"c" * 16
    by_counter = packet(
        wrap_type="A256CTR", iv=b64(iv), wrapped_data=b64(ctr(KEK, iv, private_options()))
    )
    expected = (UnwrappedKey(position=3, key=LayerKey(key=KEY, nonce=NONCE)),)
    for value in (packet(), by_counter):
        assert unwrap(KEK, packet_wrap(value)).keys == expected


def test_first_wrap_that_opens_is_enough() -> None:
    reply = unwrap(skopeo_key("rsa"), skopeo_wrap("p256"), skopeo_wrap("rsa"), skopeo_wrap("two"))
    assert len(reply.keys) == 1


def test_packet_that_its_key_does_not_open_is_refused() -> None:
    wrong = packet(wrapped_data=b64(b"x" * 60))
    assert refusal(KEK, packet_wrap(wrong)) == "enc.packet.decrypt"
    assert refusal(b"L" * 32, packet_wrap(packet())) == "enc.packet.decrypt"


def test_key_is_not_used_for_wraps_of_another_kind() -> None:
    assert unwrap(KEK, skopeo_wrap("rsa")).keys == ()
    assert unwrap(skopeo_key("rsa"), packet_wrap(packet())).keys == ()


SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505  # to be refused
ODD_CURVE = ec.generate_private_key(ec.SECP256K1())


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"x" * 31,
        b"-----BEGIN nothing",
        SMALL.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ODD_CURVE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ODD_CURVE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    ],
)
def test_key_of_no_kind_of_ours_is_refused(key: bytes) -> None:
    assert refusal(key, skopeo_wrap("rsa")) == "enc.key"


def jwe(label: str = "p256", **changes: object) -> KeyWrap:
    message = json.loads(base64.b64decode(SKOPEO["wraps"][label]["jwe"]))
    message = {**message, **changes}
    return KeyWrap(scheme=WrapScheme.JWE, data=json.dumps(message).encode(), kek=None)


def header(**changes: object) -> str:
    message = json.loads(base64.b64decode(SKOPEO["wraps"]["p256"]["jwe"]))
    text = message["protected"]
    value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    encoded = json.dumps({**value, **changes}).encode()
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


TWO = json.loads(base64.b64decode(SKOPEO["wraps"]["two"]["jwe"]))
TWICE = [{**TWO["recipients"][0], "header": {"alg": "RSA-OAEP", "enc": "A256GCM"}}]


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (jwe(protected=header(alg="dir")), "enc.jwe.alg"),
        (jwe(protected=header(alg={})), "enc.jwe.alg"),
        (jwe(protected=header(enc="A128CBC-HS256")), "enc.jwe.enc"),
        (jwe(protected=header(zip="DEF")), "enc.jwe.header"),
        (jwe(protected=header(crit=["x"])), "enc.jwe.header"),
        (jwe(protected=header(epk={"kty": "OKP"})), "enc.jwe.epk"),
        (
            jwe(protected=header(epk={"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"})),
            "enc.jwe.epk",
        ),
        (jwe(unprotected={}), "enc.jwe.members"),
        (jwe(iv="AAAA"), "enc.jwe.iv"),
        (jwe("two", encrypted_key="AAAA"), "enc.jwe.members"),
        (jwe("two", recipients=[]), "enc.jwe.members"),
        (jwe("two", recipients=TWICE), "enc.jwe.header"),
        (jwe("two", recipients=[{}] * 17), "enc.jwe.recipients"),
    ],
)
def test_jwe_outside_its_schema_is_refused(wrap: KeyWrap, reason: str) -> None:
    assert refusal(skopeo_key("p256"), wrap) == reason
    assert len(unwrap(skopeo_key("p256"), jwe(), jwe("two")).keys) == 1


@pytest.mark.parametrize("member", ["ciphertext", "tag", "protected"])
def test_jwe_that_was_changed_opens_nothing(member: str) -> None:
    message = json.loads(base64.b64decode(SKOPEO["wraps"]["p256"]["jwe"]))
    text = message[member]
    changed = (
        header(kid="x") if member == "protected" else ("B" if text[0] == "A" else "A") + text[1:]
    )
    assert unwrap(skopeo_key("p256"), jwe(**{member: changed})).keys == ()


def test_request_is_refused_by_type_of_its_key_before_any_wrap_is_read() -> None:
    garbage = KeyWrap(scheme=WrapScheme.PKCS7, data=b"", kek=None)
    assert refusal(b"no key", garbage) == "enc.key"
    with pytest.raises(FormatError) as refused:
        unwrap(skopeo_key("rsa"), garbage)
    assert refused.value.reason == "enc.cms"
