"""The part of `typing` that early guest code uses, without its import cost.

PID 1 up to LISTEN, and every child whose libraries do not load `typing` anyway, is a fresh
interpreter; `typing` would add 0.4 MB to each, for annotations that nobody reads at run time. The
type checker sees `typing`'s own names here; at run time the stand-ins below take their place. Only
two modules inspect them, `ccinit.values` (class variables) and `ccinit.formats.encoding.wire` (new
types), and both recognise `typing`'s originals, too.

Modules that are never loaded so early may import `typing`. A protocol takes `Protocol` from the
same module as its bases do.
"""

from collections import namedtuple
from collections.abc import Callable
from types import GenericAlias

__all__ = [
    "TYPE_CHECKING",
    "Any",
    "ClassVar",
    "Final",
    "Generic",
    "NamedTuple",
    "Never",
    "NewType",
    "Protocol",
    "Self",
    "TypeAlias",
    "TypeVar",
    "assert_never",
    "cast",
    "dataclass_transform",
    "overload",
]

TYPE_CHECKING = False  # to the type checker this name is true, wherever it stands

if TYPE_CHECKING:
    from typing import (
        Any,
        ClassVar,
        Final,
        Generic,
        NamedTuple,
        Never,
        NewType,
        Protocol,
        Self,
        TypeAlias,
        TypeVar,
        assert_never,
        cast,
        dataclass_transform,
        overload,
    )
else:

    class _Form:
        """What stands in an annotation: alone, before brackets, or beside `|`."""

        def __init__(self, name: str, **_options: object) -> None:
            self.__name__ = name

        def __getitem__(self, _item: object) -> "_Form":
            return self

        def __or__(self, _other: object) -> "_Form":
            return self

        __ror__ = __or__

    class TypeVar(_Form):
        """Stands for a type that the type checker finds."""

    class NewType(_Form):
        """Keeps the class of its values in `__supertype__`, like `typing`'s."""

        def __init__(self, name: str, supertype: type) -> None:
            super().__init__(name)
            self.__supertype__ = supertype

        def __call__(self, value: object) -> object:
            """Return the value."""
            return value

        def __or__(self, other: object) -> object:
            return self.__supertype__ | other

        __ror__ = __or__

    class Generic:
        """A base that takes brackets."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    class Protocol(Generic):
        """What others have without saying so."""

        __slots__ = ()

    class _TupleMaker(type):
        """Makes a tuple class of a class with annotations, as `typing.NamedTuple` does."""

        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = type(name, (), namespace).__annotations__
            defaults = [namespace[field] for field in fields if field in namespace]
            made = namedtuple(  # noqa: PYI024  # `typing` would make it of this one
                name, fields, defaults=defaults, module=namespace["__module__"]
            )
            made.__doc__, made.__annotations__ = namespace.get("__doc__"), fields
            return made

    class NamedTuple(metaclass=_TupleMaker):
        """A base whose annotations name the fields; those with a value may be left out."""

    Any, ClassVar, Final = _Form("Any"), _Form("ClassVar"), _Form("Final")
    Never, Self, TypeAlias = _Form("Never"), _Form("Self"), _Form("TypeAlias")

    def cast(_kind: object, value: object) -> object:
        """Return the value."""
        return value

    def assert_never(value: object) -> None:
        """Fail: this is never reached."""
        raise AssertionError(f"{value!r} is a case that there is not")

    def overload(function: Callable[..., object]) -> Callable[..., object]:
        """Return a placeholder that the following definition replaces."""
        return function

    def dataclass_transform(**_options: object) -> Callable[[object], object]:
        """Return a decorator that changes nothing."""
        return lambda function: function
