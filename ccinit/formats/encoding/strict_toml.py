"""Reading TOML 1.0 of a caller's size: all of its errors as one, whatever the library raises.

PID 1 imports modules that parse TOML and parses none, so libraries are loaded at the first call.

The library's time grows with the square of the parts of a dotted key: one of 64 KiB costs a minute,
one of 1 MiB hours. So a key has a cap, and it is looked for before the library sees the text: with
what may hold anything (strings, comments) taken out, what is left of a key is names and dots.
"""

from typing import Final

from ccinit.errors import FormatError, LimitExceededError

MAX_KEY_PARTS: Final = 16

# A string without an end takes the rest: the library will go no further. And each byte is looked at
# once, whatever the text is: nothing is tried again (`++`), and what has begun matches.
_OPAQUE: Final = (
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5})?'
    r"|'''(?:[^']++|'(?!''))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+"
)
_LONG_KEY: Final = rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}"


def parse_toml(document: bytes, reason: str) -> dict[str, object]:
    """Parse TOML text (UTF-8, no byte-order mark) into plain values.

    Raises:
        FormatError: with `reason`.
        LimitExceededError: with `reason`, a key of more than `MAX_KEY_PARTS` parts.
    """
    import tomllib  # noqa: PLC0415  # see the module

    try:
        text = document.decode("utf-8", errors="strict")
        _refuse_long_keys(text, reason)
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of an integer of thousands of digits
        raise FormatError(reason, f"not TOML: {error}") from error


def _refuse_long_keys(text: str, reason: str) -> None:
    import re  # noqa: PLC0415  # see the module

    bare = re.sub(_OPAQUE, "s", text, flags=re.DOTALL)
    if re.search(_LONG_KEY, bare):
        raise LimitExceededError(reason, f"a key of more than {MAX_KEY_PARTS} parts")
