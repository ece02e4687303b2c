"""Reading TOML 1.0; whatever the library raises becomes a `FormatError`. The caller caps the size.

PID 1 imports modules that parse TOML but parses none, so libraries are loaded at the first call.

The library takes quadratic time in the number of parts of a dotted key: a key of 64 KiB costs a
minute, one of 1 MiB hours. So keys have a cap, which is checked before the library sees the text:
without strings and comments, which may hold anything, a key is only names and dots.

From Python 3.15 on, the library reads TOML 1.1, and an owner's Python may be newer than a guest's.
What an owner's tool accepts, guests must accept, so the additions of 1.1 are refused here, except
for times without seconds: no document of ours has a time as a value.
"""

from typing import Final

from ccinit.errors import FormatError, LimitExceededError

MAX_KEY_PARTS: Final = 16
_SHOWN: Final = 80

# A string without an end takes the rest of the text, where the library stops, too. Matching takes
# linear time: possessive quantifiers (`++`) never backtrack, and what has begun always matches.
_OPAQUE: Final = (
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5})?'
    r"|'''(?:[^']++|'(?!''))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+"
)
_LONG_KEY: Final = rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}"
_NEWER_ESCAPE: Final = r"(?<!\\)(?:\\\\)*+\\[ex]"
_MARK: Final = b"\xef\xbb\xbf"
_STRUCTURE: Final = r"[][{}\n]|,(?=[ \t]*+\})"


def parse_toml(document: bytes, reason: str) -> dict[str, object]:
    """Parse TOML text (UTF-8, no byte-order mark) into plain values.

    Raises:
        FormatError: with `reason`.
        LimitExceededError: with `reason`, a key of more than `MAX_KEY_PARTS` parts.
    """
    import tomllib  # noqa: PLC0415  # see the module

    try:
        text = document.decode("utf-8", errors="strict")
        bare = _without_strings(text)
        _refuse_long_keys(bare, reason)
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise FormatError(reason, f"not TOML: not UTF-8 at byte {error.start + 1}") from error
    except (ValueError, RecursionError) as error:  # or a huge integer
        marked = document.startswith(_MARK)
        said = "a byte-order mark at its start" if marked else _shorten(str(error))
        raise FormatError(reason, f"not TOML: {said}") from error
    _refuse_newer_escapes(text, reason)
    _refuse_newer_tables(bare, reason)
    return values


def _shorten(said: str) -> str:
    """Cut what the library says, which may have a whole key in its middle and ends with a place."""
    return said if len(said) <= 2 * _SHOWN else f"{said[:_SHOWN]}...{said[-_SHOWN:]}"


def _without_strings(text: str) -> str:
    import re  # noqa: PLC0415  # see the module

    return re.sub(_OPAQUE, "s", text, flags=re.DOTALL)


def _refuse_long_keys(bare: str, reason: str) -> None:
    import re  # noqa: PLC0415  # see the module

    if re.search(_LONG_KEY, bare):
        raise LimitExceededError(reason, f"a key of more than {MAX_KEY_PARTS} parts")


def _refuse_newer_escapes(text: str, reason: str) -> None:
    """Refuse the two new escapes in what the library has found to be TOML."""
    if "\\e" not in text and "\\x" not in text:
        return
    import re  # noqa: PLC0415  # see the module

    for opaque in re.finditer(_OPAQUE, text, flags=re.DOTALL):
        if opaque[0].startswith('"') and re.search(_NEWER_ESCAPE, opaque[0]):
            raise FormatError(reason, r"not TOML 1.0: an escape \e or \x")


def _refuse_newer_tables(bare: str, reason: str) -> None:
    """Refuse newlines and trailing commas in the inline tables of such a text."""
    if "{" not in bare:
        return
    import re  # noqa: PLC0415  # see the module

    opened: list[str] = []
    for found in re.finditer(_STRUCTURE, bare):
        if found[0] in "[{":
            opened.append(found[0])
        elif found[0] in "]}":
            opened.pop()
        elif opened and opened[-1] == "{":
            raise FormatError(reason, "not TOML 1.0: an inline table on several lines, or `,}`")
