"""Names of KBS resources: `kbs:///<repository>/<type>/<tag>`.

Trustee's KBS takes exactly three segments; each begins with a letter, digit, underscore or hyphen
and holds only those and dots. The authority is always empty here: which KBS answers is chosen by
the measured `ccinit.toml` alone, never by a name.
"""

from dataclasses import dataclass
from string import ascii_letters, digits

from ccinit.errors import FormatError

_SCHEME = "kbs:///"
_FIRST = frozenset(ascii_letters + digits + "_-")
_REST = _FIRST | {"."}
_MAX_SEGMENT_BYTES = 128
_SEGMENTS = 3


@dataclass(frozen=True, slots=True)
class ResourceUri:
    """One resource; `str()` gives the `kbs:///` form."""

    repository: str
    type: str
    tag: str

    @property
    def path(self) -> str:
        """The part after `/kbs/v0/resource/`."""
        return f"{self.repository}/{self.type}/{self.tag}"

    def __str__(self) -> str:
        return _SCHEME + self.path


def parse_resource_uri(text: str, reason: str = "uri.form") -> ResourceUri:
    """Parse a `kbs:///` name.

    Raises:
        FormatError: with `reason`.
    """
    if not text.startswith(_SCHEME):
        raise FormatError(reason, f"expected kbs:///repository/type/tag, found {text[:80]!r}")
    segments = text.removeprefix(_SCHEME).split("/")
    if len(segments) != _SEGMENTS or not all(_is_segment(segment) for segment in segments):
        raise FormatError(reason, f"expected three plain segments, found {text[:80]!r}")
    return ResourceUri(*segments)


def _is_segment(text: str) -> bool:
    return 0 < len(text) <= _MAX_SEGMENT_BYTES and text[0] in _FIRST and _REST.issuperset(text)
