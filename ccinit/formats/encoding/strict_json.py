"""Strict JSON and base64, in which the KBS's messages are written.

RFC 8259 narrowed as in RFC 7493: UTF-8, no duplicate member, integers only and below 2^53, bounded
depth. Base64 is accepted in its one canonical spelling. What the members mean is left to the
modules of each format; TOML tables have their own reader in `ccinit.formats.encoding.fields`.
"""

import binascii
from collections.abc import Iterable, Mapping, Sequence

from ccinit.annotations import Never, TypeAlias
from ccinit.errors import FormatError, LimitExceededError

JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1  # RFC 7493: what every JSON reader keeps exactly

_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = str.maketrans("-_", "+/")
_MARK = b"\xef\xbb\xbf"


def parse_json(data: bytes, where: str, max_bytes: int, max_values: int | None = None) -> JsonValue:
    """Read strict JSON: UTF-8, no duplicate member, no float, no huge integer, bounded depth.

    Args:
        data: the text.
        where: prefix of the reasons.
        max_bytes: of the text.
        max_values: at all depths, for callers that read megabytes from strangers: a value may be
            two bytes long and cost as much time as a long text. None for no cap.

    Raises:
        LimitExceededError: `<where>.length`, `<where>.values`, `<where>.depth`.
        FormatError: `<where>.json`, `<where>.duplicate`, `<where>.number`, `<where>.unicode`.
    """
    if len(data) > max_bytes:
        raise LimitExceededError(
            f"{where}.length", f"expected at most {max_bytes} bytes, found {len(data)}"
        )

    budget = _Budget(where, len(data) if max_values is None else max_values)

    def refuse_number(_text: str) -> Never:
        raise FormatError(f"{where}.number", "only integers occur here")

    def read_integer(text: str) -> int:
        budget.spend(1)
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            raise FormatError(f"{where}.number", "integer beyond 2^53")
        return int(text)

    def read_object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        budget.spend(1)
        members = dict(pairs)
        if len(members) != len(pairs):
            raise FormatError(f"{where}.duplicate", "a member occurs twice")
        return members

    import json  # noqa: PLC0415  # PID 1 reads no JSON; `processes.child` loads it in time

    try:
        value: JsonValue = json.loads(
            data.decode("utf-8"),
            parse_int=read_integer,
            parse_float=refuse_number,
            parse_constant=refuse_number,
            object_pairs_hook=read_object,
        )
    except (ValueError, RecursionError) as error:
        mark = ": a byte-order mark at its start" if data.startswith(_MARK) else ""
        raise FormatError(f"{where}.json", f"malformed JSON{mark}") from error
    _check_tree(value, where, _Budget(where, budget.whole))
    return value


class _Budget:
    """How many values a text may still have."""

    def __init__(self, where: str, whole: int) -> None:
        self._where = where
        self.whole = self._left = whole

    def spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise LimitExceededError(f"{self._where}.values", f"more than {self.whole} values")


def _check_tree(value: JsonValue, where: str, budget: _Budget) -> None:
    """Refuse what the decoder lets through: too much depth, and escapes that are not Unicode."""
    level: list[JsonValue] = [value]
    for _depth in range(MAX_DEPTH + 1):
        budget.spend(len(level))
        inner: list[JsonValue] = []
        for item in level:
            if isinstance(item, Mapping):
                inner.extend(item.values())
                _check_texts(item, where)
            elif isinstance(item, list):
                inner.extend(item)
            elif isinstance(item, str):
                _check_texts((item,), where)
        if not inner:
            return
        level = inner
    raise LimitExceededError(f"{where}.depth", f"nested deeper than {MAX_DEPTH}")


def _check_texts(texts: Iterable[str], where: str) -> None:
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:  # a lone surrogate
            raise FormatError(f"{where}.unicode", "text is not Unicode") from error


def members(value: JsonValue, names: frozenset[str], where: str) -> Mapping[str, JsonValue]:
    """Return `value` as an object that has exactly the members `names`.

    Raises:
        FormatError: `<where>.type`, `<where>.members`.
    """
    if not isinstance(value, Mapping):
        raise FormatError(f"{where}.type", "expected an object")
    if set(value) != names:
        raise FormatError(f"{where}.members", "missing or unknown members")
    return value


def text_member(
    value: Mapping[str, JsonValue], name: str, where: str, *, max_bytes: int = 4096
) -> str:
    """Return member `name` as text of at most `max_bytes` UTF-8 bytes.

    Raises:
        FormatError: `<where>.<name>`.
    """
    text = value[name]
    if not isinstance(text, str):
        raise FormatError(f"{where}.{name}", "expected text")
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:  # a lone surrogate
        raise FormatError(f"{where}.{name}", "text is not Unicode") from error
    if length > max_bytes:
        raise LimitExceededError(
            f"{where}.{name}", f"expected at most {max_bytes} bytes, found {length}"
        )
    return text


def encode_base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515 section 2)."""
    return encode_base64(data).rstrip("=").translate(_TO_URL)


def decode_base64url(value: JsonValue, reason: str) -> bytes:
    """Decode base64url without padding; only the one encoding that we would write ourselves.

    Raises:
        FormatError: with `reason`.
    """
    if not isinstance(value, str) or not value.isascii():
        raise FormatError(reason, "expected base64url text")
    try:
        padded = value.translate(_FROM_URL) + "=" * (-len(value) % 4)
        data = binascii.a2b_base64(padded, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(reason, "malformed base64url") from error
    # Padding, the standard alphabet and set unused bits all decode, but to a text that differs.
    if encode_base64url(data) != value:
        raise FormatError(reason, "not canonical base64url")
    return data


def decode_base64(value: JsonValue, reason: str, least: int = 0, most: int | None = None) -> bytes:
    """Decode standard, padded base64; only the one encoding that we would write ourselves.

    Args:
        value: the text.
        reason: of a refusal.
        least: how many bytes there have to be, and
        most: how many there may be; None leaves that to the caller.

    Raises:
        FormatError: with `reason`.
    """
    if not isinstance(value, str) or not value.isascii():
        raise FormatError(reason, "expected base64 text")
    try:
        data = binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(reason, "malformed base64") from error
    if encode_base64(data) != value:
        raise FormatError(reason, "not canonical base64")
    if len(data) < least or (most is not None and len(data) > most):
        expected = f"{least}" if least == most else f"{least} to {most}"
        raise FormatError(reason, f"expected {expected} bytes, found {len(data)}")
    return data


def encode_base64(data: bytes) -> str:
    """Encode with the standard alphabet and padding (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")
