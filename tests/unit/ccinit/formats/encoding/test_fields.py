"""Invariant: a table is read exactly, or refused with the key's name."""

from enum import StrEnum

import pytest

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.fields import Fields


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def read(table: object) -> tuple[str, int, Colour, tuple[str, ...]]:
    with Fields(table, "t") as fields:
        return (
            fields.text("name", max_bytes=4),
            fields.integer("count", low=1, high=9, default=5),
            fields.choice("colour", Colour, default=Colour.RED),
            fields.texts("words", max_items=2),
        )


def test_fields_complete_table_is_read() -> None:
    table = {"name": "abc", "count": 2, "colour": "blue", "words": ["x", "y"]}
    assert read(table) == ("abc", 2, Colour.BLUE, ("x", "y"))


def test_fields_absent_optional_keys_take_their_defaults() -> None:
    assert read({"name": "abc"}) == ("abc", 5, Colour.RED, ())


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        pytest.param([], "t.type", id="not-a-table"),
        pytest.param({}, "t.name", id="missing"),
        pytest.param({"name": "abcde"}, "t.name", id="too-long"),
        pytest.param({"name": "\u00e9\u00e9x"}, "t.name", id="too-long-in-bytes"),
        pytest.param({"name": "a\0"}, "t.name", id="nul"),
        pytest.param({"name": "\ud800"}, "t.name", id="lone-surrogate"),
        pytest.param({"name": 1}, "t.name", id="not-a-string"),
        pytest.param({"name": "a", "count": 0}, "t.count", id="below"),
        pytest.param({"name": "a", "count": 10}, "t.count", id="above"),
        pytest.param({"name": "a", "count": 1 << 20_000}, "t.count", id="too-long-to-write"),
        pytest.param({"name": "a", "count": -(1 << 20_000)}, "t.count", id="as-long-below"),
        pytest.param({"name": "a", "count": True}, "t.count", id="bool-for-int"),
        pytest.param({"name": "a", "count": 1.0}, "t.count", id="float-for-int"),
        pytest.param({"name": "a", "colour": "green"}, "t.colour", id="outside-the-set"),
        pytest.param({"name": "a", "words": "x"}, "t.words", id="string-for-array"),
        pytest.param({"name": "a", "words": ["x"] * 3}, "t.words", id="too-many"),
        pytest.param({"name": "a", "other": 1}, "t.unknown", id="unknown-key"),
    ],
)
def test_fields_wrong_table_is_refused_by_key(table: object, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(table)
    assert caught.value.reason == reason


def read_hex(table: object) -> tuple[bytes, tuple[bytes, ...]]:
    with Fields(table, "t") as fields:
        return (
            fields.hexadecimal("digest", size_bytes=2),
            fields.hexadecimals("keys", size_bytes=1),
        )


def test_fields_hexadecimal_has_one_spelling() -> None:
    assert read_hex({"digest": "00ff", "keys": ["0a", "0b"]}) == (b"\0\xff", (b"\n", b"\x0b"))
    assert read_hex({"digest": "00ff"}) == (b"\0\xff", ())
    for digest in ("00FF", "00f", "00ff00", "00 f", "00fg", "", 5, None):
        with pytest.raises(FormatError) as caught:
            read_hex({"digest": digest})
        assert caught.value.reason == "t.digest"
    for key in ("0A", "0", "", " 0"):
        with pytest.raises(FormatError) as caught:
            read_hex({"digest": "00ff", "keys": ["0a", key]})
        assert caught.value.reason == "t.keys"


def read_integers(table: object) -> tuple[int, ...]:
    with Fields(table, "t") as fields:
        return fields.integers("sizes", low=1, high=9, max_items=2)


def test_fields_integers_are_different_and_within_their_limits() -> None:
    assert read_integers({"sizes": [9, 1]}) == (9, 1)
    assert read_integers({"sizes": []}) == read_integers({}) == ()
    for sizes in (1, [0], [10], [True], [1.0], ["1"], [2, 2], [1, 2, 3]):
        with pytest.raises(FormatError) as caught:
            read_integers({"sizes": sizes})
        assert caught.value.reason == "t.sizes"


def test_fields_limits_raise_the_limit_error() -> None:
    assert read({"name": "abcd"})[0] == "abcd"
    with pytest.raises(LimitExceededError) as caught:
        read({"name": "abcde"})
    assert caught.value.reason == "t.name"


def test_fields_an_error_inside_the_block_is_not_hidden_by_unknown_keys() -> None:
    with pytest.raises(ZeroDivisionError), Fields({"unread": 1}, "t"):
        raise ZeroDivisionError


def test_fields_nested_tables_carry_their_path() -> None:
    def read_inner(fields: Fields) -> int:
        return fields.integer("n", low=0, high=1)

    with pytest.raises(FormatError) as caught, Fields({"a": [{"n": 0}, {"n": 2}]}, "t") as fields:
        fields.tables("a", read_inner)
    assert caught.value.reason == "t.a.n"


def read_items(table: object) -> tuple[int, ...]:
    def read(fields: Fields) -> int:
        fields.optional_text("name")
        inner = fields.tables("part", lambda part: part.integer("size", low=1, high=9))
        return fields.integer("size", low=1, high=9) + sum(inner)

    with Fields(table, "t") as fields:
        return fields.tables("item", read)


@pytest.mark.parametrize(
    ("items", "detail"),
    [
        pytest.param([{"size": 1}, {"size": 0}], "item 2: expected 1 to 9, found 0", id="number"),
        pytest.param([{"name": "web"}], "item 'web': missing", id="name"),
        pytest.param(
            [{"name": "web", "bytes": 1, "size": 1}],
            "item 'web': unknown key 'bytes'",
            id="unknown",
        ),
        pytest.param([{"name": 7, "size": 1}], "item 1: expected a string", id="name-is-no-text"),
        pytest.param(
            [{"name": "\x1b", "size": 0}], "item '\\x1b': expected 1 to 9, found 0", id="escaped"
        ),
        pytest.param([7], "item 1: expected a table", id="no-table"),
        pytest.param(
            [{"name": "web", "size": 1, "part": [{"size": 1}, {}]}],
            "item 'web': part 2: missing",
            id="nested",
        ),
    ],
)
def test_fields_error_in_an_array_says_which_of_its_tables(items: object, detail: str) -> None:
    assert read_items({"item": [{"name": "web", "size": 1}, {"size": 2}]}) == (1, 2)
    with pytest.raises(FormatError) as caught:
        read_items({"item": items})
    assert caught.value.detail == detail


def test_fields_one_table_for_an_array_of_tables_is_told_how_to_write_it() -> None:
    def names(table: object) -> tuple[str, ...]:
        with Fields(table, "t") as fields:
            return fields.tables("item", lambda item: item.text("name"))

    assert names({"item": [{"name": "web"}]}) == ("web",)
    with pytest.raises(FormatError) as caught:
        names({"item": {"name": "web"}})
    assert caught.value.reason == "t.item"
    expected = "expected an array of tables ([[item]] in TOML), found one table"
    assert caught.value.detail == expected
