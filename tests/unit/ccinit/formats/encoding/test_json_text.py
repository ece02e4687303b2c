"""JSON as it is written without the library, held against the library."""

import hashlib
import json
from enum import IntEnum, StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError
from ccinit.formats.encoding.json_text import canonical_json, encode_json
from ccinit.formats.encoding.strict_json import JsonValue

VECTORS = json.loads(Path("tests/vectors/rcar/messages.json").read_text())

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


class Number(IntEnum):
    TWO = 2


class Name(StrEnum):
    TWO = "two"


def as_library(value: object, *, sort_keys: bool) -> bytes:
    text = json.dumps(value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


@given(value=VALUES, sort_keys=st.booleans())
def test_text_is_the_librarys(value: object, sort_keys: bool) -> None:  # noqa: FBT001
    assert encode_json(value, sort_keys=sort_keys) == as_library(value, sort_keys=sort_keys)


def test_every_character_that_has_an_escape_is_escaped_as_the_library_does() -> None:
    text = "".join(map(chr, range(0x100))) + "\u2028\U0001f600"
    assert encode_json({text: text}) == as_library({text: text}, sort_keys=False)


def test_tuples_and_members_of_enums_are_arrays_and_plain_values() -> None:
    assert encode_json({Name.TWO: (Number.TWO, Name.TWO, True, ())}) == b'{"two":[2,"two",true,[]]}'


@pytest.mark.parametrize("value", [1.5, b"bytes", {1: "a"}, {"a": {2}}])
def test_value_without_a_form_is_a_bug_and_no_text(value: object) -> None:
    with pytest.raises(TypeError):
        encode_json(value)


def test_text_that_is_not_unicode_is_not_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_json("\ud800")


def test_canonical_json_is_sorted_and_tight() -> None:
    vector = VECTORS["canonical"]
    assert hashlib.sha384(canonical_json(vector["value"])).hexdigest() == vector["sha384"]
    assert canonical_json({"b": [True, None, '\n\x01\x7f"\\/'], "a": 0}) == (
        b'{"a":0,"b":[true,null,"\\n\\u0001\x7f\\"\\\\/"]}'
    )


@pytest.mark.parametrize("value", [1.5, "é", {"é": 1}, [2**53], float("nan")])
def test_canonical_json_of_what_does_not_occur_is_refused(value: JsonValue) -> None:
    with pytest.raises(FormatError) as refused:
        canonical_json({"a": value})
    assert refused.value.reason == "json.canonical"
