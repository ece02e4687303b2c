"""ocicrypt's annotations and CoCo's packets: what is read, and every way out of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import CcinitError, FormatError, LimitExceededError
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import (
    MAX_WRAP_BYTES,
    MAX_WRAPS,
    KeyWrap,
    LayerKey,
    PacketCipher,
    WrapScheme,
    join_keys,
    parse_key_packet,
    parse_layer_encryption,
    parse_private_options,
    split_keys,
)
from tests.fakes.images.encrypted_image import (
    KEY,
    KID,
    NONCE,
    PACKETS,
    PREFIX,
    Json,
    annotations,
    b64,
    encode,
    packet,
    private_options,
    public_options,
)

SAMPLE = json.loads(Path("tests/vectors/layer_encryption/coco_sample.json").read_text())
URI = ResourceUri("default", "image-key", "1")
CIPHERTEXT = b"ciphertext"
GOOD = annotations(CIPHERTEXT)


def test_annotations_of_every_scheme_are_read_in_a_fixed_order() -> None:
    value = {
        PACKETS: encode(packet()),
        f"{PREFIX}keys.pkcs7": b64(b"cms"),
        f"{PREFIX}keys.pgp": "somebody else's",
        f"{PREFIX}keys.jwe": f"{b64(b'one')},{b64(b'two')}",
        f"{PREFIX}pubopts": GOOD[f"{PREFIX}pubopts"],
        "org.example.other": "x",
    }
    found = parse_layer_encryption(value)
    assert [(wrap.scheme, wrap.data) for wrap in found.wraps[:3]] == [
        (WrapScheme.JWE, b"one"),
        (WrapScheme.JWE, b"two"),
        (WrapScheme.PKCS7, b"cms"),
    ]
    assert found.wraps[3] == KeyWrap(
        scheme=WrapScheme.PROVIDER, data=json.dumps(packet()).encode(), kek=URI
    )
    assert found.nonce == b""


def with_options(**changes: object) -> Json:
    return {**GOOD, f"{PREFIX}pubopts": encode(public_options(CIPHERTEXT, **changes))}


def with_packet(**changes: Any) -> Json:
    return {**GOOD, PACKETS: encode(packet(**changes))}


WITHOUT_OPTIONS = {PACKETS: GOOD[PACKETS]}
WITHOUT_KEYS = {f"{PREFIX}pubopts": GOOD[f"{PREFIX}pubopts"]}
HUGE = b64(b"x" * (MAX_WRAP_BYTES + 1))
REFUSED: dict[str, tuple[object, str]] = {
    "no annotations": (None, "enc.annotations"),
    "no public options": (WITHOUT_OPTIONS, "enc.pubopts"),
    "options that are no base64": ({**GOOD, f"{PREFIX}pubopts": "{}"}, "enc.pubopts"),
    "options that are no object": ({**GOOD, f"{PREFIX}pubopts": b64(b"1")}, "enc.pubopts.members"),
    "no cipher": ({**GOOD, f"{PREFIX}pubopts": encode({"hmac": ""})}, "enc.pubopts.members"),
    "another cipher": (with_options(cipher="AES_256_CBC"), "enc.cipher"),
    "no HMAC": (with_options(hmac=""), "enc.hmac"),
    "an HMAC that is cut": (with_options(hmac=b64(b"x" * 31)), "enc.hmac"),
    "an option more": (with_options(x=1), "enc.pubopts.members"),
    "a nonce that is cut": (with_options(cipheroptions={"nonce": b64(b"x")}), "enc.nonce"),
    "no wrap": (WITHOUT_KEYS, "enc.keys"),
    "only a foreign wrap": ({**WITHOUT_KEYS, f"{PREFIX}keys.pgp": "eA=="}, "enc.keys"),
    "a wrap under another prefix": ({**WITHOUT_KEYS, "jwe": "eA=="}, "enc.keys"),
    "a wrap that is no text": ({**WITHOUT_KEYS, f"{PREFIX}keys.jwe": 1}, "enc.keys"),
    "a provider without a name": ({**WITHOUT_KEYS, f"{PREFIX}keys.provider": "x"}, "enc.keys"),
    "a wrap that is no base64": ({**WITHOUT_KEYS, f"{PREFIX}keys.jwe": "!"}, "enc.wrap"),
    "a wrap beyond its cap": ({**WITHOUT_KEYS, f"{PREFIX}keys.jwe": HUGE}, "enc.wrap"),
    "a wrap far beyond its cap": ({**WITHOUT_KEYS, f"{PREFIX}keys.jwe": HUGE * 2}, "enc.wrap"),
    "options far beyond their cap": ({**GOOD, f"{PREFIX}pubopts": "eA" * 8192}, "enc.pubopts"),
    "too many wraps": (
        {**WITHOUT_KEYS, f"{PREFIX}keys.jwe": ",".join(["eA=="] * (MAX_WRAPS + 1))},
        "enc.keys",
    ),
    "too many wraps together": (
        {**GOOD, f"{PREFIX}keys.jwe": ",".join(["eA=="] * MAX_WRAPS)},
        "enc.keys",
    ),
    "a packet that is no JSON": ({**WITHOUT_KEYS, PACKETS: "eA=="}, "enc.packet.json"),
    "a packet without its key": (with_packet(kid=None), "enc.packet.kid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_r58_annotations_that_do_not_say_it_all_are_refused(name: str) -> None:
    value, reason = REFUSED[name]
    with pytest.raises(CcinitError) as refused:
        parse_layer_encryption(value)  # type: ignore[arg-type]
    assert refused.value.reason == reason
    assert parse_layer_encryption(GOOD).wraps[0].kek == URI


def test_wraps_are_read_up_to_their_caps() -> None:
    longest = b"x" * MAX_WRAP_BYTES
    found = parse_layer_encryption({**WITHOUT_KEYS, f"{PREFIX}keys.jwe": b64(longest)})
    assert [wrap.data for wrap in found.wraps] == [longest]
    most = ",".join(["eA=="] * MAX_WRAPS)
    found = parse_layer_encryption({**WITHOUT_KEYS, f"{PREFIX}keys.jwe": most})
    assert len(found.wraps) == MAX_WRAPS


FOREIGN: dict[str, tuple[Json, str]] = {
    "a KBS of its own": (packet(kid="kbs://kbs.example:8080/default/key/1"), "enc.packet.kid"),
    "a web server": (packet(kid="https://kbs.example/default/key/1"), "enc.packet.kid"),
    "a path that climbs": (packet(kid="kbs:///default/../1"), "enc.packet.kid"),
    "a key service": (packet(provider="aliyun"), "enc.packet.provider"),
    "settings of a service": (
        packet(provider="kbs", provider_settings={"url": "https://kbs.example"}),
        "enc.packet.provider",
    ),
    "notes for a service": (packet(annotations={"x": "y"}), "enc.packet.provider"),
    "a later version": (packet(version="0.2.0"), "enc.packet.version"),
    "another cipher": (packet(wrap_type="A128GCM"), "enc.packet.wrap_type"),
    "a cipher that is no text": (packet(wrap_type=[]), "enc.packet.wrap_type"),
    "an IV of the other cipher": (packet(wrap_type="A256CTR"), "enc.packet.iv"),
    "a member more": (packet(url="https://kbs.example"), "enc.packet.members"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_r60_packet_whose_key_is_not_of_the_measured_kbs_is_refused(name: str) -> None:
    value, reason = FOREIGN[name]
    with pytest.raises(FormatError) as refused:
        parse_key_packet(json.dumps(value).encode())
    assert refused.value.reason == reason
    assert parse_key_packet(json.dumps(packet()).encode()).kek == URI


def test_r60_packet_beyond_its_cap_is_refused() -> None:
    huge = json.dumps(packet(wrapped_data="A" * MAX_WRAP_BYTES)).encode()
    with pytest.raises(LimitExceededError) as refused:
        parse_key_packet(huge)
    assert refused.value.reason == "enc.packet.length"


@pytest.mark.parametrize(
    "value",
    [
        packet(version="0.1.0", provider="kbs", provider_settings={}, annotations={}),
        packet(provider="kbs"),
        SAMPLE["packet"],
    ],
)
def test_packets_of_both_versions_are_read(value: Json) -> None:
    found = parse_key_packet(json.dumps(value).encode())
    assert str(found.kek) == value["kid"]
    assert found.cipher is PacketCipher.GCM
    assert "wrapped=" not in repr(found)


def test_private_options_give_key_and_nonce() -> None:
    assert parse_private_options(private_options(), b"") == LayerKey(key=KEY, nonce=NONCE)
    without = private_options(cipheroptions={})
    assert parse_private_options(without, NONCE) == LayerKey(key=KEY, nonce=NONCE)
    assert "kkk" not in repr(LayerKey(key=KEY, nonce=NONCE))


@pytest.mark.parametrize(
    ("options", "public_nonce", "reason"),
    [
        (private_options(cipheroptions={}), b"", "enc.nonce"),
        (private_options(), b"m" * 16, "enc.nonce"),
        (private_options(symkey=b64(b"short")), b"", "enc.private.symkey"),
        (private_options(extra=1), b"", "enc.private.members"),
        (b"[]", b"", "enc.private.members"),
        (b"x" * 5000, b"", "enc.private.length"),
    ],
)
def test_r58_private_options_that_do_not_say_it_all_are_refused(
    options: bytes, public_nonce: bytes, reason: str
) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_private_options(options, public_nonce)
    assert refused.value.reason == reason


def test_keys_of_an_image_are_joined_and_split() -> None:
    keys = (LayerKey(key=KEY, nonce=NONCE), LayerKey(key=b"x" * 32, nonce=b"y" * 16))
    assert split_keys(join_keys(keys), 2) == keys
    with pytest.raises(FormatError) as refused:
        split_keys(join_keys(keys), 1)
    assert refused.value.reason == "enc.keys"
    assert str(URI) == KID
