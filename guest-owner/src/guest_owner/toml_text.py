"""Quoted texts for TOML."""

import json
from collections.abc import Sequence


def quote(value: str | Sequence[str]) -> str:
    """Return a text, or a list of texts, as a value of TOML; there is no lone surrogate in it."""
    # JSON's escapes are TOML's but for pairs of surrogates; and TOML wants DEL escaped, too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
