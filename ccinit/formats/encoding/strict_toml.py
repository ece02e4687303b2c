"""Reading TOML 1.0 of a caller's size: all of its errors as one, whatever the library raises.

PID 1 imports modules that parse TOML and parses none, so the library is loaded at the first call.
"""

from ccinit.errors import FormatError


def parse_toml(document: bytes, reason: str) -> dict[str, object]:
    """Parse TOML text (UTF-8, no byte-order mark) into plain values.

    Raises:
        FormatError: with `reason`.
    """
    import tomllib  # noqa: PLC0415  # see the module

    try:
        return tomllib.loads(document.decode("utf-8", errors="strict"))
    except (ValueError, RecursionError) as error:  # also of an integer of thousands of digits
        raise FormatError(reason, f"not TOML: {error}") from error
