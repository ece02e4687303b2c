"""JSON and base64 in their one accepted form."""

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.strict_json import (
    MAX_DEPTH,
    MAX_INTEGER,
    decode_base64,
    decode_base64url,
    encode_base64,
    encode_base64url,
    members,
    parse_json,
    text_member,
)


def test_parse_json_value_is_read() -> None:
    data = b'{"a": [1, true, null, "\xc3\xa9"], "b": {"c": -9007199254740991}}'
    assert parse_json(data, "x", 100) == {"a": [1, True, None, "é"], "b": {"c": -MAX_INTEGER}}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b'{"a": 1, "a": 2}', "x.duplicate", id="duplicate"),
        pytest.param(b"1.0", "x.number", id="float"),
        pytest.param(b"1e3", "x.number", id="exponent"),
        pytest.param(b"NaN", "x.number", id="nan"),
        pytest.param(b"-Infinity", "x.number", id="infinity"),
        pytest.param(b"9007199254740992", "x.number", id="beyond 2^53"),
        pytest.param(b"9" * 90, "x.number", id="huge"),
        pytest.param(b"", "x.json", id="empty"),
        pytest.param(b"{} {}", "x.json", id="two values"),
        pytest.param(b"\xff", "x.json", id="not utf-8"),
        pytest.param(b"\xef\xbb\xbf{}", "x.json", id="byte order mark"),
        pytest.param(b"{'a': 1}", "x.json", id="single quotes"),
        pytest.param(b" " * 101, "x.length", id="long"),
        pytest.param(b'{"a": ["\\ud800"]}', "x.unicode", id="lone surrogate"),
        pytest.param(b'{"\\udfff": 1}', "x.unicode", id="lone surrogate as a name"),
        pytest.param(b"[" * 40 + b"]" * 40, "x.depth", id="deep"),
    ],
)
def test_parse_json_outside_the_form_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_json(data, "x", 100)
    assert refused.value.reason == reason


def test_parse_json_integer_of_more_digits_than_python_reads_is_refused_by_its_name() -> None:
    with pytest.raises(FormatError) as refused:
        parse_json(b"9" * 5000, "x", 5000)
    assert refused.value.reason == "x.number"


@pytest.mark.parametrize("text", [b'[1, "a", {}]', b"[[], [], []]", b'{"a": {"b": {"c": 0}}}'])
def test_parse_json_every_value_counts(text: bytes) -> None:
    assert parse_json(text, "x", 100, max_values=4)
    with pytest.raises(LimitExceededError) as refused:
        parse_json(text, "x", 100, max_values=3)
    assert refused.value.reason == "x.values"


def test_parse_json_very_deep_is_no_recursion_error() -> None:
    for data in (b"[" * 500_000, b'{"a":' * 200_000, b"[" * 50_000 + b"]" * 50_000):
        with pytest.raises(FormatError) as refused:
            parse_json(data, "x", 1 << 20)
        assert refused.value.reason in {"x.json", "x.depth"}


def test_parse_json_depth_limit_is_the_last_accepted() -> None:
    parse_json(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH, "x", 100)
    with pytest.raises(LimitExceededError) as refused:
        parse_json(b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1), "x", 100)
    assert refused.value.reason == "x.depth"


def test_members_other_than_asked_for_are_refused() -> None:
    names = frozenset(("a", "b"))
    assert members({"a": 1, "b": 2}, names, "x") == {"a": 1, "b": 2}
    for value, reason in (
        ({"a": 1}, "x.members"),
        ({"a": 1, "b": 2, "c": 3}, "x.members"),
        ([], "x.type"),
    ):
        with pytest.raises(FormatError) as refused:
            members(value, names, "x")
        assert refused.value.reason == reason


def test_text_member_type_length_and_surrogates_are_checked() -> None:
    assert text_member({"a": "é"}, "a", "x", max_bytes=2) == "é"
    for value, error in (
        (1, FormatError),
        ("éé", LimitExceededError),
        ("\ud800", FormatError),
    ):
        with pytest.raises(error) as refused:
            text_member({"a": value}, "a", "x", max_bytes=3)
        assert refused.value.reason == "x.a"


@pytest.mark.parametrize("length", range(6))
def test_base64_round_trip(length: int) -> None:
    data = bytes(range(250, 250 + length))
    assert decode_base64(encode_base64(data), "x") == data
    assert decode_base64url(encode_base64url(data), "x") == data


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "A+A_", "AA\n", " AA", "ÄA", None, 1])
def test_base64url_not_canonical_is_refused(text: str | int | None) -> None:
    assert decode_base64url("AA", "x") == b"\0"
    with pytest.raises(FormatError) as refused:
        decode_base64url(text, "x")
    assert refused.value.reason == "x"


@pytest.mark.parametrize(
    "text", ["AA", "AB==", "AA=", "AA==AA==", "_A==", "AA==\n", "A A=", "ÄA==", None, 1]
)
def test_base64_not_canonical_is_refused(text: str | int | None) -> None:
    assert decode_base64("AA==", "x") == b"\0"
    with pytest.raises(FormatError) as refused:
        decode_base64(text, "x")
    assert refused.value.reason == "x"


def test_byte_order_mark_is_told() -> None:
    for data, said in ((b"\xef\xbb\xbf{}", ": a byte-order mark at its start"), (b"{", "")):
        with pytest.raises(FormatError) as refused:
            parse_json(data, "x", 100)
        assert refused.value.detail == f"malformed JSON{said}"
