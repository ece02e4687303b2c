"""Writing compact JSON (RFC 8259); `strict_json` reads it.

PID 1 writes a few documents (a container's spec, events, replies) and reads none: its children do.
The library's `json` includes a reader, which loads regular expressions: 0.4 MB in PID 1.
"""

from collections.abc import Mapping

from ccinit.annotations import Final
from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import MAX_INTEGER, JsonValue

_ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in range(0x20)},
    **{ord(plain): f"\\{letter}" for plain, letter in zip("\b\f\n\r\t", "bfnrt", strict=True)},
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}


def encode_json(value: object, *, sort_keys: bool = False) -> bytes:
    """Encode texts, integers, booleans, None, lists or tuples of them, and mappings from texts.

    Without spaces, in UTF-8, with the short escapes where there are any, as `json.dumps` does with
    `separators=(",", ":")` and `ensure_ascii=False`.

    Raises:
        TypeError: the value holds something else, such as a float (a bug of the caller).
        UnicodeEncodeError: a text is not Unicode.
    """
    parts: list[str] = []
    _write(value, parts, sort_keys=sort_keys)
    return "".join(parts).encode()


def canonical_json(value: JsonValue) -> bytes:
    """Encode by RFC 8785 (JCS) the values that occur here: ASCII texts, small integers, objects.

    With ASCII only, order by UTF-16 unit is order by code point and the escapes of `encode_json`
    are those of JCS. Floats, whose JCS form needs ECMAScript's number printing, are refused.

    Raises:
        FormatError: `json.canonical`, a value without a form here.
    """
    pending: list[JsonValue] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Mapping):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        elif isinstance(item, float) or (isinstance(item, int) and abs(item) > MAX_INTEGER):
            raise FormatError("json.canonical", "only integers up to 2^53 have a form here")
        elif isinstance(item, str) and not item.isascii():
            raise FormatError("json.canonical", "only ASCII texts have a form here")
    return encode_json(value, sort_keys=True)


def _write(value: object, parts: list[str], *, sort_keys: bool) -> None:
    match value:
        case None:
            parts.append("null")
        case bool():
            parts.append("true" if value else "false")
        case int():
            parts.append(str(int(value)))  # of an enum's member, the number
        case str():
            parts.append(_quote(value))
        case list() | tuple():
            _write_array(value, parts, sort_keys=sort_keys)
        case Mapping():
            _write_object(value, parts, sort_keys=sort_keys)
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")


def _write_array(
    items: list[object] | tuple[object, ...], parts: list[str], *, sort_keys: bool
) -> None:
    separator = "["
    for item in items:
        parts.append(separator)
        _write(item, parts, sort_keys=sort_keys)
        separator = ","
    parts.append("]" if items else "[]")


def _write_object(members: Mapping[str, object], parts: list[str], *, sort_keys: bool) -> None:
    separator = "{"
    for name in sorted(members) if sort_keys else members:
        parts += (separator, _quote(name), ":")
        _write(members[name], parts, sort_keys=sort_keys)
        separator = ","
    parts.append("}" if members else "{}")


def _quote(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is no name of a member")
    return f'"{str(text).translate(_ESCAPES)}"'
