"""Invariant: a device image is one bounded gzip member of one strict document, or is refused."""

import gzip
import hashlib

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.initdata.document import (
    HEADER_BYTES,
    MAX_COMPRESSED_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_QUOTED_BYTES,
    Initdata,
    decompress_document,
    document_digest,
    encode_device_image,
    parse_header,
    parse_initdata,
)
from ccinit.formats.kbs.rcar import MAX_ATTESTATION_BYTES

DOCUMENT = b"""version = "0.1.0"
algorithm = "sha256"

[data]
"ccinit.toml" = "a"
"pod.toml" = "b"
"""


def member_of(image: bytes) -> bytes:
    length = parse_header(image[:HEADER_BYTES])
    return image[HEADER_BYTES : HEADER_BYTES + length]


def test_initdata_image_comes_back_as_the_exact_document() -> None:
    image = encode_device_image(DOCUMENT)
    assert len(image) % 4096 == 0  # whole sectors on any disk
    document = decompress_document(member_of(image))
    assert document == DOCUMENT
    assert parse_initdata(document) == Initdata(algorithm="sha256", config_toml="a", pod_toml="b")


def test_initdata_may_have_cocos_files_beside_the_guests() -> None:
    document = DOCUMENT + b'"aa.toml" = "c"\n"cdh.toml" = "d"\n'
    assert parse_initdata(document) == Initdata(
        algorithm="sha256", config_toml="a", pod_toml="b", aa_toml="c", cdh_toml="d"
    )


@pytest.mark.parametrize("letter", ["\n", "\t", "\r\n", '"', "\\", "é"])
def test_document_that_no_kbs_would_take_is_refused(letter: str) -> None:
    """In the Attestation, of at most 2 MiB, it is a text of JSON; `initdata.size` is of that."""
    head = DOCUMENT.decode() + ("#" if letter in {'"', "\\", "é"} else "")
    room = MAX_DOCUMENT_BYTES - len(head.encode())
    fits, exceeds = (head + letter * (room * part // 4 // len(letter.encode())) for part in (1, 4))
    assert parse_initdata(fits.encode()).config_toml == "a"
    if letter == "é":  # two bytes here and there
        assert parse_initdata(exceeds.encode()).config_toml == "a"
        return
    with pytest.raises(LimitExceededError, match=r"initdata\.size: .*as a JSON text"):
        parse_initdata(exceeds.encode())


def test_largest_document_leaves_room_for_evidence() -> None:
    escaped = MAX_QUOTED_BYTES - MAX_DOCUMENT_BYTES - DOCUMENT.count(b"\n") - DOCUMENT.count(b'"')
    document = DOCUMENT + b"\n" * escaped
    document += b"#".ljust(MAX_DOCUMENT_BYTES - len(document), b"x")
    text = document.decode()
    assert parse_initdata(document)
    assert len(encode_json(text)) == MAX_QUOTED_BYTES + len('""')
    assert MAX_ATTESTATION_BYTES - MAX_QUOTED_BYTES == 512 << 10
    with pytest.raises(LimitExceededError, match=r"initdata\.size"):
        parse_initdata(document[:-1] + b"\n")


def test_initdata_image_is_reproducible() -> None:
    assert encode_device_image(DOCUMENT) == encode_device_image(DOCUMENT)


def test_initdata_digest_agrees_with_the_published_vector() -> None:
    text = b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n'
    digest = document_digest(text, "sha256")
    assert digest.hex() == "8042cc8a65ff2a61c55127924ce8bd58f7c44d6fce009fa81bf07ac067619290"
    extended = hashlib.sha256(bytes(32) + digest).hexdigest()
    assert extended == "37d7456df43f441ba82ad495d9ec19790eca31daea26b4fc2bc158565d9bbf99"


@pytest.mark.parametrize(
    ("header", "family", "reason"),
    [
        pytest.param(b"", FormatError, "initdata.magic", id="empty"),
        pytest.param(b"initdata" + bytes(6) + b"\1", FormatError, "initdata.magic", id="short"),
        pytest.param(b"initdatA" + bytes(8), FormatError, "initdata.magic", id="other-magic"),
        pytest.param(b"initdata" + bytes(8), LimitExceededError, "initdata.length", id="zero"),
        pytest.param(
            b"initdata" + (1 << 63).to_bytes(8, "little"),
            LimitExceededError,
            "initdata.length",
            id="2^63",
        ),
        pytest.param(
            b"initdata" + (MAX_COMPRESSED_BYTES + 1).to_bytes(8, "little"),
            LimitExceededError,
            "initdata.length",
            id="one-above",
        ),
    ],
)
def test_r10_initdata_header_outside_its_limits_is_refused(
    header: bytes, family: type[FormatError], reason: str
) -> None:
    with pytest.raises(family) as caught:
        parse_header(header)
    assert caught.value.reason == reason


@pytest.mark.parametrize("length", [1, MAX_COMPRESSED_BYTES])
def test_initdata_header_says_how_long_the_member_behind_it_is(length: int) -> None:
    header = encode_device_image(DOCUMENT)[:8] + length.to_bytes(8, "little")
    assert parse_header(header) == length
    assert parse_header(header + b"member") == length


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        pytest.param(b"plain text", "initdata.gzip", id="not-gzip"),
        pytest.param(gzip.compress(DOCUMENT)[:-1], "initdata.gzip", id="cut-short"),
        pytest.param(gzip.compress(DOCUMENT) + b"x", "initdata.gzip", id="bytes-behind"),
        pytest.param(gzip.compress(DOCUMENT) * 2, "initdata.gzip", id="two-members"),
        pytest.param(gzip.compress(bytes(MAX_DOCUMENT_BYTES + 1)), "initdata.size", id="bomb"),
    ],
)
def test_r10_initdata_member_that_is_not_one_bounded_text_is_refused(
    member: bytes, reason: str
) -> None:
    with pytest.raises(FormatError) as caught:
        decompress_document(member)
    assert caught.value.reason == reason


def test_initdata_of_exactly_the_cap_is_read() -> None:
    text = bytes(MAX_DOCUMENT_BYTES)
    assert decompress_document(gzip.compress(text)) == text


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param(b"0.1.0", b"0.2.0", "initdata.version", id="version"),
        pytest.param(b"sha256", b"sha512", "initdata.algorithm", id="sha512"),
        pytest.param(b"sha256", b"sm3", "initdata.algorithm", id="sm3"),
        pytest.param(b"[data]", b"x = 1\n[data]", "initdata.unknown", id="key"),
        pytest.param(b'"pod.toml"', b'"aa.toml"', "initdata.data.pod.toml", id="no-pod"),
        pytest.param(
            b"[data]",
            b'[data]\n"policy.rego" = "default AllowRequestsFailingPolicy := true"',
            "initdata.data.policy.rego",
            id="agent-policy",
        ),
        pytest.param(b"[data]", b'[data]\n"x.toml" = ""', "initdata.data.unknown", id="file"),
        pytest.param(b"[data]", b'[data]\n"aa.toml" = 1', "initdata.data.aa.toml", id="aa"),
        pytest.param(b"[data]", b'[data]\n"cdh.toml" = 1', "initdata.data.cdh.toml", id="cdh"),
        pytest.param(b'"a"', b"1", "initdata.data.ccinit.toml", id="not-text"),
        pytest.param(b"[data]", b"[data]\n[data]", "initdata.toml", id="duplicate"),
        pytest.param(b"version", b"\xef\xbb\xbfversion", "initdata.toml", id="bom"),
        pytest.param(b'"0.1.0"', b"[" * 5000, "initdata.toml", id="depth"),
        pytest.param(b'"0.1.0"', b"\xff", "initdata.toml", id="not-utf8"),
        pytest.param(b'"0.1.0"', b"1" * 5000, "initdata.toml", id="long-integer"),
    ],
)
def test_r07_r09_initdata_document_outside_its_schema_is_refused(
    old: bytes, new: bytes, reason: str
) -> None:
    assert parse_initdata(DOCUMENT)
    with pytest.raises(FormatError) as caught:
        parse_initdata(DOCUMENT.replace(old, new, 1))
    assert caught.value.reason == reason
