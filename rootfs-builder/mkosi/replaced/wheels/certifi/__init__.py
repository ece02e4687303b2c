"""Stands in for certifi: httpcore imports it, and no list of public roots is in this image.

The guest trusts the roots that its measured configuration names, and passes its own TLS context
everywhere. Code that would fall back to public roots fails instead.
"""

from typing import NoReturn


def where() -> NoReturn:
    """Refuse: nothing here trusts public roots."""
    raise RuntimeError("no public roots in this image: pass a TLS context")


def contents() -> NoReturn:
    """Refuse, as `where` does."""
    where()
