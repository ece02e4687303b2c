"""Frozen values: the part of `dataclasses` that the guest uses, without its import cost.

`dataclasses` generates source text for each class and compiles it at import, and loads `inspect`,
`ast` and `re` to do so. PID 1 and each of its children are fresh interpreters, where this took half
of the time to the first useful step (docs/decisions/0012). Here all classes share one set of
methods.

A value has slots, equality and a hash over its fields in order, a `repr`, and cannot be changed.
The type checker treats `frozen` like `dataclass` (PEP 681).
"""

from collections.abc import Callable, Mapping
from operator import attrgetter

from ccinit.annotations import Any, TypeVar, cast, dataclass_transform, overload

C = TypeVar("C")
V = TypeVar("V")

_FIELDS = "__value_fields__"
_NOTHING = object()  # no default: None may be one
_put = object.__setattr__  # a value's own __setattr__ refuses


class Field:
    """A field of a value class.

    Attributes:
        kind: its annotation.
        is_shown: whether `repr` shows its content.
    """

    __slots__ = ("_factory", "is_shown", "kind", "name")

    def __init__(self, factory: Callable[[], object] | None, *, is_shown: bool) -> None:
        self.name = ""
        self.kind: object = None
        self.is_shown = is_shown
        self._factory = factory

    def default(self) -> object:
        """Return the field's value when none is given.

        Raises:
            TypeError: the field has no default.
        """
        if self._factory is None:
            raise TypeError(f"{self.name!r} is not given")
        return self._factory()


def field(
    *,
    default: object = _NOTHING,
    default_factory: Callable[[], object] | None = None,
    repr: bool = True,  # noqa: A002  # as in `dataclasses`
) -> Any:
    """Describe a field as `dataclasses.field` does; `repr=False` keeps its content out of texts."""
    if default is not _NOTHING:
        return Field(lambda: default, is_shown=repr)
    return Field(default_factory, is_shown=repr)


@overload
def frozen(cls: type[C], /) -> type[C]: ...
@overload
def frozen(*, kw_only: bool = True) -> Callable[[type[C]], type[C]]: ...
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def frozen(
    cls: type[C] | None = None, /, *, kw_only: bool = True
) -> type[C] | Callable[[type[C]], type[C]]:
    """Make a value class from a class with annotations; see the module.

    `__post_init__`, if the class has one, is called last. Methods that the class defines itself
    (`__repr__`, say) stay.
    """
    if cls is None:
        return lambda given: _make(given, kw_only=kw_only)
    return _make(cls, kw_only=kw_only)


def fields(kind: object) -> tuple[Field, ...]:
    """Return the fields of a value class or a value; none if it is neither."""
    return cast("tuple[Field, ...]", getattr(kind, _FIELDS, ()))


def is_frozen(kind: object) -> bool:
    """Whether this is a value class or a value."""
    return hasattr(kind, _FIELDS)


def replace(old: V, **changes: object) -> V:
    """Return a value like `old` with other content in the named fields.

    Raises:
        TypeError: `old` is not of a value class, or has no such field.
    """
    if not is_frozen(old):
        raise TypeError(f"{type(old).__name__} is no value class")
    kept = {one.name: getattr(old, one.name) for one in fields(old)}
    return type(old)(**(kept | changes))


def _make(cls: type[C], *, kw_only: bool) -> type[C]:
    """Recreate the class with slots, which cannot be added to an existing class."""
    namespace = {
        name: item for name, item in cls.__dict__.items() if name not in ("__dict__", "__weakref__")
    }
    own = [
        _take_field(namespace, name, kind)
        for name, kind in cls.__annotations__.items()
        if not _is_of_class(kind)
    ]
    all_fields = (*fields(cls), *own)
    names = tuple(one.name for one in all_fields)
    methods = {
        "__init__": _initialiser(
            all_fields, kw_only=kw_only, completes="__post_init__" in namespace
        ),
        "__eq__": _equal,
        "__hash__": _hash,
        "__repr__": _describe,
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
    }
    namespace = {
        **methods,
        **namespace,
        _FIELDS: all_fields,
        "__value_content__": staticmethod(_content_of(names)),
        "__slots__": tuple(one.name for one in own),
        "__match_args__": () if kw_only else names,
        "__qualname__": cls.__qualname__,
    }
    metaclass: Any = type(cls)
    return cast("type[C]", metaclass(cls.__name__, cls.__bases__, namespace))


def _take_field(namespace: dict[str, Any], name: str, kind: object) -> Field:
    given = namespace.pop(name, _NOTHING)
    one: Field = given if isinstance(given, Field) else field(default=given)
    one.name, one.kind = name, kind
    return one


def _is_of_class(kind: object) -> bool:
    """Whether this is a `ClassVar`, ours or `typing`'s; does not load `typing` to find out."""
    origin: object = getattr(kind, "__origin__", kind)
    return getattr(origin, "__name__", None) == "ClassVar"


def _initialiser(
    all_fields: tuple[Field, ...], *, kw_only: bool, completes: bool
) -> Callable[..., None]:
    names = tuple(one.name for one in all_fields)
    all_names = frozenset(names)

    def initialise(self: Any, *positional: object, **given: object) -> None:
        if positional:
            if kw_only or len(positional) > len(names):
                raise TypeError(f"{len(positional)} positional arguments are too many")
            given = dict(zip(names, positional, strict=False)) | _without(given, positional, names)
        if given.keys() != all_names:
            given = _with_defaults(given, all_fields)
        for name in names:
            _put(self, name, given[name])
        if completes:
            self.__post_init__()

    return initialise


def _with_defaults(given: Mapping[str, object], all_fields: tuple[Field, ...]) -> dict[str, object]:
    content = {
        one.name: given[one.name] if one.name in given else one.default() for one in all_fields
    }
    if unknown := given.keys() - content.keys():
        raise TypeError(f"{', '.join(unknown)}: no such field")
    return content


def _without(
    given: dict[str, object], positional: tuple[object, ...], names: tuple[str, ...]
) -> dict[str, object]:
    twice = given.keys() & set(names[: len(positional)])
    if twice:
        raise TypeError(f"{', '.join(sorted(twice))}: given twice")
    return given


def _content_of(names: tuple[str, ...]) -> Callable[[object], object]:
    """Return what equality and hash compare; `attrgetter` returns a single name's value bare."""
    return attrgetter(*names) if names else lambda _value: ()


def _equal(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__value_content__(self) == self.__value_content__(other)


def _hash(self: Any) -> int:
    return hash(self.__value_content__(self))


def _describe(self: object) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.is_shown)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: object, name: str, _content: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be set")


def _refuse_to_delete(self: object, name: str) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")
