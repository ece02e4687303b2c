"""A strict reader of one parsed TOML or JSON table.

Every key is read by name, type and limit; leaving the `with` block refuses keys that were not read.
So a schema is the list of the calls that read it, and an unknown key can never be skipped silently.
Errors carry the reason `<where>.<key>`.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar, cast

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.hexadecimal import decode_hex

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

MAX_TEXT_BYTES = 4096
MAX_ITEMS = 64
_SHOWN_BITS = 64
_SHOWN_NAME = 63


class Fields:
    """One table, read exactly once; use as a context manager."""

    def __init__(self, table: object, where: str) -> None:
        """Args: table: the parsed value; where: dotted prefix of the reasons."""
        if not isinstance(table, Mapping):
            raise FormatError(f"{where}.type", "expected a table")
        self._table: Mapping[str, object] = table
        self._where = where
        self._read: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._refuse_unknown()

    def has(self, key: str) -> bool:
        """Whether `key` is present; does not count as reading it."""
        return key in self._table

    def value(self, key: str) -> object:
        """A required value of any type, for a reader of its own."""
        return self._take(key)

    def text(self, key: str, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
        """A required string of at most `max_bytes` UTF-8 bytes, without NUL."""
        return self._text(self._take(key), key, max_bytes)

    def optional_text(self, key: str, *, max_bytes: int = MAX_TEXT_BYTES) -> str | None:
        """Like `text`, or None if the key is absent."""
        return self.text(key, max_bytes=max_bytes) if self.has(key) else None

    def integer(self, key: str, *, low: int, high: int, default: int | None = None) -> int:
        """An integer within [low, high]; required unless `default` is given."""
        if default is not None and not self.has(key):
            return default
        value = self._take(key)
        if type(value) is not int:
            raise self._wrong(key, "an integer")
        self._check_range(key, value, low, high)
        return value

    def integers(self, key: str, *, low: int, high: int, max_items: int) -> tuple[int, ...]:
        """An array of different integers within [low, high]; absent means empty."""
        values = self._array(key, max_items)
        for value in values:
            if type(value) is not int:
                raise self._wrong(key, "integers")
            self._check_range(key, value, low, high)
        if len(set(values)) != len(values):
            raise self._wrong(key, "each at most once")
        return tuple(cast("Sequence[int]", values))

    def hexadecimal(self, key: str, *, size_bytes: int) -> bytes:
        """Required bytes of exactly `size_bytes`, written as lower-case hex."""
        text = self.text(key, max_bytes=2 * size_bytes)
        return decode_hex(text, size_bytes, self._reason(key))

    def hexadecimals(
        self, key: str, *, size_bytes: int, max_items: int = MAX_ITEMS
    ) -> tuple[bytes, ...]:
        """An array of such bytes; absent means empty."""
        texts = self.texts(key, max_bytes=2 * size_bytes, max_items=max_items)
        return tuple(decode_hex(text, size_bytes, self._reason(key)) for text in texts)

    def boolean(self, key: str, *, default: bool | None = None) -> bool:
        """A boolean; required unless `default` is given."""
        if default is not None and not self.has(key):
            return default
        value = self._take(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "a boolean")
        return value

    def choice(self, key: str, kind: type[E], *, default: E | None = None) -> E:
        """A member of a closed set, by its value; required unless `default` is given."""
        if default is not None and not self.has(key):
            return default
        value = self.text(key)
        for member in kind:
            if member.value == value:
                return member
        allowed = ", ".join(member.value for member in kind)
        raise FormatError(self._reason(key), f"expected one of {allowed}, found {value[:80]!r}")

    def choices(self, key: str, kind: type[E]) -> tuple[E, ...]:
        """An array of different members of a closed set; absent means empty."""
        names = self.texts(key)
        members = {member.value: member for member in kind}
        if len(set(names)) != len(names) or not members.keys() >= set(names):
            raise self._wrong(key, f"each at most once, of: {', '.join(members)}")
        return tuple(members[name] for name in names)

    def texts(
        self, key: str, *, max_items: int = MAX_ITEMS, max_bytes: int = MAX_TEXT_BYTES
    ) -> tuple[str, ...]:
        """An array of strings; absent means empty."""
        return tuple(self._text(item, key, max_bytes) for item in self._array(key, max_items))

    def text_table(self, key: str) -> tuple[tuple[str, str], ...]:
        """A table of strings in its written order; absent means empty."""
        if not self.has(key):
            return ()
        value = self._take(key)
        if not isinstance(value, Mapping):
            raise self._wrong(key, "a table of strings")
        if len(value) > MAX_ITEMS:
            raise LimitExceededError(self._reason(key), f"more than {MAX_ITEMS} entries")
        return tuple(
            (self._text(name, key, MAX_TEXT_BYTES), self._text(item, key, MAX_TEXT_BYTES))
            for name, item in value.items()
        )

    def table(self, key: str, read: Callable[["Fields"], T], *, default: T | None = None) -> T:
        """A nested table given to `read`; required unless `default` is given."""
        if default is not None and not self.has(key):
            return default
        with Fields(self._take(key), self._reason(key)) as fields:
            return read(fields)

    def optional_table(self, key: str, read: Callable[["Fields"], T]) -> T | None:
        """Like `table`, or None if the key is absent."""
        return self.table(key, read) if self.has(key) else None

    def tables(
        self, key: str, read: Callable[["Fields"], T], *, max_items: int = MAX_ITEMS
    ) -> tuple[T, ...]:
        """An array of tables, each given to `read`; absent means empty.

        An error's detail says which of them: its name if it has one, or its number from 1.
        """
        if isinstance(self._table.get(key), Mapping):  # [key] written for [[key]]
            raise self._wrong(key, f"an array of tables ([[{key}]] in TOML), found one table")
        values = []
        for number, item in enumerate(self._array(key, max_items), start=1):
            try:
                with Fields(item, self._reason(key)) as fields:
                    values.append(read(fields))
            except FormatError as error:
                which = f"{key} {_describe(item, number)}"
                raise type(error)(error.reason, f"{which}: {error.detail}") from error
        return tuple(values)

    def _check_range(self, key: str, value: int, low: int, high: int) -> None:
        if not low <= value <= high:
            # Python refuses to write some thousand digits, which TOML can give in hex.
            size = value.bit_length()
            shown = str(value) if size <= _SHOWN_BITS else f"a number of {size} bits"
            expected = str(low) if low == high else f"{low} to {high}"
            raise LimitExceededError(self._reason(key), f"expected {expected}, found {shown}")

    def _array(self, key: str, max_items: int) -> Sequence[object]:
        if not self.has(key):
            return ()
        value = self._take(key)
        if not isinstance(value, list):
            raise self._wrong(key, "an array")
        if len(value) > max_items:
            raise LimitExceededError(self._reason(key), f"more than {max_items} items")
        return value

    def _text(self, value: object, key: str, max_bytes: int) -> str:
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        try:
            length = len(value.encode())
        except UnicodeEncodeError as error:
            raise FormatError(self._reason(key), "not valid Unicode") from error
        if length > max_bytes:
            raise LimitExceededError(self._reason(key), f"longer than {max_bytes} bytes")
        if "\0" in value:
            raise FormatError(self._reason(key), "contains NUL")
        return value

    def _take(self, key: str) -> object:
        if key not in self._table:
            raise FormatError(self._reason(key), "missing")
        self._read.add(key)
        return self._table[key]

    def _refuse_unknown(self) -> None:
        unknown = sorted(set(self._table) - self._read)
        if unknown:
            raise FormatError(f"{self._where}.unknown", f"unknown key {unknown[0][:80]!r}")

    def _wrong(self, key: str, expected: str) -> FormatError:
        return FormatError(self._reason(key), f"expected {expected}")

    def _reason(self, key: str) -> str:
        return f"{self._where}.{key}"


def _describe(item: object, number: int) -> str:
    name = item.get("name") if isinstance(item, Mapping) else None
    return repr(name[:_SHOWN_NAME]) if isinstance(name, str) and name else f"{number}"
