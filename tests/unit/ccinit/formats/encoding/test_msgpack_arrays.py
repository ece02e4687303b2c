"""What is counted of a message is what its reader makes of it."""

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as some

from ccinit.errors import FormatError
from ccinit.formats.encoding.msgpack_arrays import claimed_items

PLAIN = (
    some.none()
    | some.booleans()
    | some.integers(-(1 << 63), (1 << 64) - 1)
    | some.floats()
    | some.text(max_size=40)
    | some.binary(max_size=40)
)
VALUES = some.recursive(PLAIN, lambda inner: some.lists(inner, max_size=20), max_leaves=20)
LONG = [[value] for size in (8, 16) for value in (bytes(1 << size), "t" * (1 << size))]


def lengths(value: object) -> list[int]:
    if not isinstance(value, list):
        return []
    return [len(value), *(length for item in value for length in lengths(item))]


@given(VALUES, some.binary(max_size=8))
def test_items_are_those_of_the_first_value(value: object, behind: bytes) -> None:
    data = msgpack.packb(value)
    assert list(claimed_items(data + behind)) == lengths(value)
    assert len(list(claimed_items(data[:-1]))) <= len(lengths(value))


@pytest.mark.parametrize("value", [*LONG, [[None] * (1 << 16), [7]]])
def test_long_ones_are_skipped_whole(value: object) -> None:
    assert list(claimed_items(msgpack.packb([value, [1]]))) == lengths([value, [1]])


@pytest.mark.parametrize("head", [0x80, 0x81, 0xC1, *range(0xC7, 0xCA), *range(0xD4, 0xD9), 0xDE])
def test_what_no_message_has_is_refused(head: int) -> None:
    with pytest.raises(FormatError) as caught:
        list(claimed_items(b"\x92\x01" + bytes((head,)) + bytes(32)))
    assert caught.value.reason == "wire.form"


def test_every_other_head_has_a_length() -> None:
    refused = {*range(0x80, 0x90), 0xC1, *range(0xC7, 0xCA), *range(0xD4, 0xD9), 0xDE, 0xDF}
    for head in set(range(256)) - refused:
        list(claimed_items(bytes((head,)) + bytes(32)))
