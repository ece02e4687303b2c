"""What stands in for `typing` may stand wherever annotations do, and values and wire know it."""

import typing
from collections.abc import Callable
from types import NoneType, UnionType

import pytest

from ccinit import annotations
from ccinit.annotations import (
    Any,
    ClassVar,
    Final,
    Generic,
    NamedTuple,
    Never,
    NewType,
    Protocol,
    Self,
    TypeVar,
    assert_never,
    cast,
    overload,
)
from ccinit.errors import FormatError
from ccinit.formats.encoding import wire
from ccinit.values import fields, frozen

T = TypeVar("T", bound=int)
Read_co = TypeVar("Read_co", bound=int, covariant=True)
Length = NewType("Length", int)
Width = typing.NewType("Width", int)
LIMIT: Final[int] = 3


class Source(Protocol[Read_co]):
    """A protocol in brackets."""

    def read(self, other: Self | None) -> Read_co | None: ...


class Box(Generic[T]):
    """A class in brackets."""

    def __init__(self, content: T) -> None:
        self.content = content

    def map(self, change: Callable[[T], Any]) -> "Box[T] | None": ...


class NumberBox(Box[int]):
    """A class with a base in brackets."""


@frozen
class Plank:
    """A value with both kinds of class variables and new types."""

    WIRE_TAG: ClassVar[str] = "plank"
    material: typing.ClassVar[str] = "oak"
    length: Length
    width: Width
    height: Length | None = None


def test_every_name_is_one_of_typing() -> None:
    assert set(annotations.__all__) <= set(typing.__all__)


def test_brackets_and_bases_make_classes_that_can_be_made() -> None:
    assert NumberBox(LIMIT).content == LIMIT
    assert (Source.__mro__[1], Box.__mro__[1]) == (Protocol, Generic)
    assert NumberBox.__mro__[1] is Box
    assert not hasattr(Never, "__supertype__")


def test_functions_return_what_they_are_given() -> None:
    def function() -> None:
        """Do nothing."""

    assert cast("int", "text") == "text"  # type: ignore[comparison-overlap]
    assert overload(function) is function
    with pytest.raises(AssertionError, match="'case'"):
        assert_never("case")  # type: ignore[arg-type]


def test_class_variables_of_either_are_no_fields() -> None:
    assert [one.name for one in fields(Plank)] == ["length", "width", "height"]


def test_new_types_of_either_cross_as_what_they_are() -> None:
    plank = Plank(length=Length(3), width=Width(2), height=Length(1))
    assert wire.decode(Plank, wire.encode(plank)) == plank
    flat = Plank(length=Length(3), width=Width(2))
    assert wire.decode(Plank, wire.encode(flat)) == flat
    wrong = Plank(length=cast("Length", "long"), width=Width(2))
    with pytest.raises(FormatError) as caught:
        wire.decode(Plank, wire.encode(wrong))
    assert caught.value.reason == "wire.type"


def test_new_type_or_none_is_a_union_that_wire_reads() -> None:
    union: object = fields(Plank)[2].kind
    assert isinstance(union, UnionType)
    assert union.__args__ == (int, NoneType)


def test_named_tuples_are_as_those_of_typing() -> None:
    class Ours(NamedTuple):
        """What it is."""

        name: bytes
        size: int = 3

    class Theirs(typing.NamedTuple):
        """What it is."""

        name: bytes
        size: int = 3

    pairs: tuple[tuple[Any, Any], ...] = (
        (Ours(b"a"), Theirs(b"a")),
        (Ours(name=b"b", size=4), Theirs(b"b", 4)),
    )
    for one, other in pairs:
        assert one == tuple(one) == other
        assert repr(one) == repr(other).replace("Theirs", "Ours")
    assert Ours._fields == Theirs._fields
    assert (Ours.__name__, Ours.__doc__) == ("Ours", Theirs.__doc__)
    assert (Ours.__module__, Ours.__annotations__) == (Theirs.__module__, Theirs.__annotations__)
    untyped: Any = Ours
    with pytest.raises(TypeError):
        untyped()
    with pytest.raises(AttributeError):
        untyped(b"a").name = b"b"
