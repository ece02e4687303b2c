"""Frozen values behave as frozen dataclasses do, in what the guest uses of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ccinit.values import field, fields, frozen, is_frozen, replace


@frozen
class Layer:
    """Three kinds of fields."""

    name: str
    size: int = 7
    marks: tuple[str, ...] = field(default_factory=tuple)
    KIND: ClassVar[str] = "layer"

    @property
    def double(self) -> int:
        return 2 * self.size


@frozen(kw_only=False)
class Pair:
    first: int
    second: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class DataclassPair:
    first: int
    second: int = 2


@frozen
class Login:
    user: str
    password: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@frozen
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(self.number)


@frozen
class Nothing:
    pass


def test_fields_come_from_arguments_and_defaults() -> None:
    layer = Layer(name="base")
    assert (layer.name, layer.size, layer.marks, layer.double) == ("base", 7, (), 14)
    assert Layer(name="base", size=1).size == 1
    assert [one.name for one in fields(Layer)] == ["name", "size", "marks"]
    assert fields(layer)[1].kind is int
    assert (Layer.KIND, Login(user="a", password="b").token) == ("layer", None)


def test_equality_and_hash_are_by_class_and_content() -> None:
    assert Layer(name="a") == Layer(name="a", size=7)
    assert Layer(name="a") != Layer(name="b")
    others: tuple[object, ...] = (DataclassPair(1), (1, 2))
    assert Pair(1) not in others
    assert len({Layer(name="a"), Layer(name="a"), Layer(name="b")}) == 2
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda kind: kind(), id="a field missing"),
        pytest.param(lambda kind: kind(1, 2, 3), id="one argument too many"),
        pytest.param(lambda kind: kind(1, first=1), id="an argument twice"),
        pytest.param(lambda kind: kind(1, third=1), id="an unknown field"),
    ],
)
@pytest.mark.parametrize("kind", [Pair, DataclassPair])
def test_wrong_arguments_are_refused_as_a_dataclass_refuses_them(
    make: Callable[[Any], object], kind: Any
) -> None:
    with pytest.raises(TypeError):
        make(kind)
    assert (kind(1).first, kind(1, 3).second, kind(1, second=3).second) == (1, 3, 3)


def test_positional_arguments_are_refused_unless_asked_for() -> None:
    with pytest.raises(TypeError):
        Layer("base")  # type: ignore[call-arg]  # what is tested


@pytest.mark.parametrize("name", ["name", "size", "unknown"])
def test_a_value_cannot_be_changed(name: str) -> None:
    layer = Layer(name="base")
    with pytest.raises(AttributeError):
        setattr(layer, name, "other")
    with pytest.raises(AttributeError):
        delattr(layer, name)
    assert layer == Layer(name="base")
    assert not hasattr(layer, "__dict__")


def test_replace_changes_the_named_fields_only() -> None:
    assert replace(Layer(name="a", size=1), size=2) == Layer(name="a", size=2)
    with pytest.raises(TypeError):
        replace(Layer(name="a"), unknown=1)
    with pytest.raises(TypeError):
        replace(DataclassPair(1), first=2)


def test_repr_has_every_field_but_the_hidden() -> None:
    assert repr(Pair(1)) == repr(DataclassPair(1)).replace("DataclassPair", "Pair")
    assert repr(Login(user="me", password="c4n4ry")) == "Login(user='me')"


def test_post_init_sees_the_complete_value() -> None:
    assert Even(number=2).number == 2
    with pytest.raises(ValueError, match="3"):
        Even(number=3)
    with pytest.raises(ValueError, match="5"):
        replace(Even(number=2), number=5)


def test_positional_classes_match_by_position() -> None:
    match Pair(1, 5):
        case Pair(1, second):
            assert second == 5
        case _:
            pytest.fail("no match")


def test_values_are_told_from_everything_else() -> None:
    assert is_frozen(Layer)
    assert is_frozen(Layer(name="a"))
    assert not is_frozen(DataclassPair)
    assert fields(DataclassPair) == ()
