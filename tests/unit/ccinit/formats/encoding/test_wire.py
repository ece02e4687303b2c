"""Invariant: what decodes is exactly what was encoded, of exactly the type that was asked for."""

import contextlib
import tracemalloc
from enum import IntEnum, StrEnum
from typing import ClassVar, NewType

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding import wire
from ccinit.values import frozen

Key = NewType("Key", bytes)


class Kind(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


@frozen
class Inner:
    key: Key
    pair: tuple[int, str]


@frozen
class Outer:
    text: str
    flag: bool
    kind: Kind
    number: Number
    maybe: Inner | None
    items: tuple[Inner, ...]


INNER = Inner(key=Key(b"\0k"), pair=(1, "x"))
OUTER = Outer(
    text="t", flag=True, kind=Kind.A, number=Number.ONE, maybe=INNER, items=(INNER, INNER)
)


def test_wire_value_comes_back_equal() -> None:
    assert wire.decode(Outer, wire.encode(OUTER)) == OUTER


def test_wire_none_comes_back_as_none() -> None:
    value = Outer(text="", flag=False, kind=Kind.A, number=Number.ONE, maybe=None, items=())
    assert wire.decode(Outer, wire.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(["t", True, "a", 1, None], "wire.type", id="a-field-short"),
        pytest.param(["t", True, "a", 1, None, [], 1], "wire.type", id="a-field-long"),
        pytest.param([b"t", True, "a", 1, None, []], "wire.type", id="bytes-for-text"),
        pytest.param(["t", 1, "a", 1, None, []], "wire.type", id="int-for-bool"),
        pytest.param(["t", True, "b", 1, None, []], "wire.type", id="outside-the-enum"),
        pytest.param(["t", True, "a", 1, [b"", [1]], []], "wire.type", id="short-fixed-tuple"),
        pytest.param(["t", True, "a", 1, None, [None]], "wire.type", id="none-in-array"),
        pytest.param(["t", True, "a", 1, None, b""], "wire.type", id="bytes-for-array"),
        pytest.param(["t", True, "a", 1, None, 1], "wire.type", id="int-for-array"),
        pytest.param(["t", True, "a", 1.5, None, []], "wire.type", id="float"),
        pytest.param({"text": "t"}, "wire.form", id="map"),
        pytest.param(7, "wire.type", id="not-an-array"),
    ],
)
def test_wire_other_shape_is_refused(value: object, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        wire.decode(Outer, msgpack.packb(value))
    assert caught.value.reason == reason


def test_wire_bytes_behind_the_value_are_refused() -> None:
    with pytest.raises(FormatError) as caught:
        wire.decode(Outer, wire.encode(OUTER) + b"\0")
    assert caught.value.reason == "wire.form"


def test_wire_more_than_the_cap_is_refused_before_decoding() -> None:
    with pytest.raises(LimitExceededError) as caught:
        wire.decode(bytes, bytes(wire.MAX_BYTES + 1))
    assert caught.value.reason == "wire.size"


def test_wire_a_list_is_a_bug_of_the_sender() -> None:
    with pytest.raises(TypeError):
        wire.encode(["mutable"])


NESTED = (b"\xdd\x00\x02\x00\x00" + b"\xa2\xc4\x80" * 0x1FFFF) * 10  # none ends before the last
EMPTY = b"\xdc\x00\x3c" + (b"\xdd\x00\x02\x00\x00" + b"\x90" * (1 << 17)) * 60
CLAIMED = b"\xdd\x00\x02\x00\x00" * 1000  # and nothing in them


@pytest.mark.parametrize("data", [NESTED, EMPTY, CLAIMED])
def test_what_is_much_larger_in_memory_than_here_is_refused_before_it_is(data: bytes) -> None:
    """A child that has been taken over must not fill PID 1's memory by one message."""
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceededError) as caught:
            wire.decode(Outer, data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "wire.items"


def test_large_array_is_a_matter_of_type() -> None:
    with pytest.raises(FormatError) as caught:
        wire.decode(Outer, b"\xdc\xff\xff" + b"\x90" * 0xFFFF)
    assert caught.value.reason == "wire.type"


@given(st.binary(max_size=200))
def test_wire_any_bytes_decode_or_raise_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        wire.decode(Outer, data)


@frozen(kw_only=False)
class Circle:
    WIRE_TAG: ClassVar[str] = "circle"
    size: int


@frozen(kw_only=False)
class Square:
    WIRE_TAG: ClassVar[str] = "square"
    size: int


@frozen
class Drawing:
    shape: Circle | Square
    frame: Circle | Square | None


def test_wire_union_is_told_apart_by_its_tags() -> None:
    for drawing in (
        Drawing(shape=Circle(1), frame=Square(2)),
        Drawing(shape=Square(1), frame=None),
    ):
        assert wire.decode(Drawing, wire.encode(drawing)) == drawing
    assert wire.decode(Circle, wire.encode(Circle(1))) == Circle(1)


@pytest.mark.parametrize(
    "value",
    [
        [["oval", 1], None],
        [["circle"], None],
        [["circle", 1, 2], None],
        [[1], None],
        [[], None],
        [None, None],
        ["circle", None],
        [1, None],
        [["circle", "1"], None],
    ],
)
def test_wire_union_of_another_form_is_refused(value: object) -> None:
    wire.decode(Drawing, msgpack.packb([["circle", 1], None]))
    with pytest.raises(FormatError) as refused:
        wire.decode(Drawing, msgpack.packb(value))
    assert refused.value.reason == "wire.type"


def test_wire_class_with_a_tag_is_not_another_with_the_same_fields() -> None:
    with pytest.raises(FormatError) as refused:
        wire.decode(Circle, wire.encode(Square(1)))
    assert refused.value.reason == "wire.type"
