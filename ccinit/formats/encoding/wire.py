"""How PID 1 and its children pass typed values: frozen values as MessagePack arrays.

A value becomes an array of its fields in their order of definition; the reader states the type it
expects and gets exactly that, or `FormatError`. The field annotations are the schema, so a value
cannot cross the boundary in a form that the type checker has not seen. Annotations may be `bool`,
`int` (64 bits), `str`, `bytes`, an enum, a `NewType` of these, `X | None`, `tuple[X, ...]`, a fixed
tuple, another such value, or a union of value classes, each with a class variable `WIRE_TAG`: a
text of its own, which comes first in the array.

PID 1 decodes what children send that have parsed hostile bytes: the sender is not trusted.
"""

from enum import Enum
from types import GenericAlias, NoneType, UnionType

import msgpack  # type: ignore[import-untyped]

from ccinit.annotations import TypeVar, cast
from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.msgpack_arrays import claimed_items
from ccinit.values import fields, is_frozen

T = TypeVar("T")

MAX_BYTES = 8 * 1024 * 1024
"""Of an encoded value; initdata (1 MiB) fits, and so do an image's manifest and config."""

_MAX_ITEMS = 1 << 18
"""In all arrays together."""

_PLAIN = (bool, int, str, bytes, NoneType)


def encode(value: object) -> bytes:
    """Encode a frozen value (or plain one) of the kinds named above."""
    return cast("bytes", msgpack.packb(_plain(value), use_bin_type=True))


def decode(kind: type[T], data: bytes) -> T:
    """Decode `data` as exactly one `kind`.

    Raises:
        FormatError: `wire.form` (not MessagePack, or more than one value) or `wire.type`.
        LimitExceededError: `wire.size`, `wire.items`.
    """
    if len(data) > MAX_BYTES:
        raise LimitExceededError(
            "wire.size", f"expected at most {MAX_BYTES} bytes, found {len(data)}"
        )
    items = 0
    for claimed in claimed_items(data):
        items += claimed
        if items > _MAX_ITEMS:
            raise LimitExceededError("wire.items", f"more than {_MAX_ITEMS}")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            max_array_len=_MAX_ITEMS,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise FormatError("wire.form", f"not one MessagePack value: {error}") from error
    return cast("T", _typed(kind, value, kind.__name__))


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_frozen(value):
        return [*_tag(type(value)), *(_plain(getattr(value, one.name)) for one in fields(value))]
    raise TypeError(f"{type(value).__name__} does not cross a process boundary")


def _typed(kind: object, value: object, where: str) -> object:
    kind = getattr(kind, "__supertype__", kind)  # of a new type
    if isinstance(kind, UnionType):
        return _typed_union(kind, value, where)
    if isinstance(kind, GenericAlias):
        return _typed_tuple(kind, value, where)
    if isinstance(kind, type):
        return _typed_class(kind, value, where)
    raise TypeError(f"{where}: {kind!r} is not a wire type")


def _tag(kind: type) -> tuple[str, ...]:
    tag: str = getattr(kind, "WIRE_TAG", "")
    return (tag,) if tag else ()


def _typed_union(kind: UnionType, value: object, where: str) -> object:
    if value is None and NoneType in kind.__args__:
        return None
    members = [argument for argument in kind.__args__ if argument is not NoneType]
    if len(members) == 1:
        return _typed(members[0], value, where)
    for member in members:
        if isinstance(value, list) and value and (value[0],) == _tag(member):
            return _typed_class(member, value, where)
    raise _wrong(where, "one of a union", value)


def _typed_tuple(kind: GenericAlias, value: object, where: str) -> object:
    if not isinstance(value, list):
        raise _wrong(where, "an array", value)
    arguments = kind.__args__
    if arguments[-1] is Ellipsis:
        return tuple(_typed(arguments[0], item, f"{where}[]") for item in value)
    if len(arguments) != len(value):
        raise _wrong(where, f"{len(arguments)} items", value)
    return tuple(
        _typed(argument, item, f"{where}[]")
        for argument, item in zip(arguments, value, strict=True)
    )


def _typed_class(kind: type, value: object, where: str) -> object:
    if kind in _PLAIN:
        if type(value) is not kind:
            raise _wrong(where, kind.__name__, value)
        return value
    if issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError as error:
            raise _wrong(where, kind.__name__, value) from error
    if not is_frozen(kind):
        raise TypeError(f"{where}: {kind.__name__} is not a wire type")
    members, tag = fields(kind), _tag(kind)
    if not isinstance(value, list) or len(value) != len(tag) + len(members):
        raise _wrong(where, f"{len(members)} fields", value)
    if tuple(value[: len(tag)]) != tag:
        raise _wrong(where, tag[0], value)
    return kind(
        **{
            member.name: _typed(member.kind, item, f"{where}.{member.name}")
            for member, item in zip(members, value[len(tag) :], strict=True)
        }
    )


def _wrong(where: str, expected: str, value: object) -> FormatError:
    return FormatError("wire.type", f"{where}: expected {expected}, found {type(value).__name__}")
