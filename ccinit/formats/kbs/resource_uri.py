"""Names of what a KBS releases: `kbs:///<repository>/<type>/<tag>`, `kbs+<plugin>:///<path>?<query>`.

Trustee's KBS takes exactly three segments for a resource; each begins with a letter, digit,
underscore or hyphen and holds only those and dots. A plugin's path has one or more such segments,
and optionally a query of distinct names with values, without escapes. The authority is always
empty: only the measured `ccinit.toml` chooses which KBS answers, never a name.
"""

from ccinit.annotations import ClassVar, TypeAlias
from ccinit.errors import FormatError
from ccinit.formats.encoding.alphabet import DIGITS, LETTERS, LOWERCASE
from ccinit.values import frozen

_SCHEME = "kbs:///"
_PLUGIN_SCHEME, _PLUGIN_SEPARATOR = "kbs+", ":///"
_FIRST = frozenset(LETTERS + DIGITS + "_-")
_REST = _FIRST | {"."}
_MAX_SEGMENT_BYTES = 128
_SEGMENTS = 3
_PLUGIN_CHARACTERS = frozenset(LOWERCASE + DIGITS + "-")
_MAX_PLUGIN_BYTES = 32
_MAX_PLUGIN_SEGMENTS = 8
# Unreserved (RFC 3986 section 2.3), and what addresses are written with.
_QUERY_CHARACTERS = frozenset(LETTERS + DIGITS + "_-.~:/,")
_MAX_QUERY_BYTES = 512
# First segments of the KBS's API that are not plugins; a resource has its own scheme.
_NOT_PLUGINS = frozenset(
    ("attest", "attestation-policy", "auth", "reference-value", "resource", "resource-policy")
)


@frozen(kw_only=False)
class ResourceUri:
    """One resource; `str()` gives the `kbs:///` form."""

    WIRE_TAG: ClassVar[str] = "resource"

    repository: str
    type: str
    tag: str

    @property
    def path(self) -> str:
        """The part after `/kbs/v0/resource/`."""
        return f"{self.repository}/{self.type}/{self.tag}"

    @property
    def request_path(self) -> str:
        """The part after `/kbs/v0/`."""
        return f"resource/{self.path}"

    def __str__(self) -> str:
        return _SCHEME + self.path


@frozen(kw_only=False)
class PluginUri:
    """What a plugin of the KBS returns; `str()` gives the `kbs+<plugin>:///` form."""

    WIRE_TAG: ClassVar[str] = "plugin"

    plugin: str
    path: str
    query: str

    @property
    def request_path(self) -> str:
        """The part after `/kbs/v0/`."""
        return f"{self.plugin}/{self._rest}"

    @property
    def _rest(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{_PLUGIN_SCHEME}{self.plugin}{_PLUGIN_SEPARATOR}{self._rest}"


KbsUri: TypeAlias = ResourceUri | PluginUri


def parse_kbs_uri(text: str, reason: str = "uri.form") -> KbsUri:
    """Parse a `kbs:///` or `kbs+<plugin>:///` name.

    Raises:
        FormatError: with `reason`.
    """
    if text.startswith(_PLUGIN_SCHEME):
        return _parse_plugin_uri(text, reason)
    return parse_resource_uri(text, reason)


def _parse_plugin_uri(text: str, reason: str) -> PluginUri:
    plugin, found, rest = text.removeprefix(_PLUGIN_SCHEME).partition(_PLUGIN_SEPARATOR)
    path, mark, query = rest.partition("?")
    segments = path.split("/")
    if not (
        found
        and 0 < len(plugin) <= _MAX_PLUGIN_BYTES
        and _PLUGIN_CHARACTERS.issuperset(plugin)
        and plugin not in _NOT_PLUGINS
        and len(segments) <= _MAX_PLUGIN_SEGMENTS
        and all(map(_is_segment, segments))
        and (_is_query(query) if mark else True)
    ):
        raise FormatError(reason, f"expected kbs+plugin:///path?query, found {text[:80]!r}")
    return PluginUri(plugin, path, query)


def _is_query(text: str) -> bool:
    """Whether it is `name=value` pairs joined by `&`, each name once: a KBS reads it as a map."""
    pairs = [pair.partition("=") for pair in text.split("&")]
    names = [name for name, _, _ in pairs]
    return (
        len(text) <= _MAX_QUERY_BYTES
        and len(set(names)) == len(names)
        and all(
            _is_segment(name) and equals and _QUERY_CHARACTERS.issuperset(value)
            for name, equals, value in pairs
        )
    )


def parse_resource_uri(text: str, reason: str = "uri.form") -> ResourceUri:
    """Parse a `kbs:///` name.

    Raises:
        FormatError: with `reason`.
    """
    segments = text.removeprefix(_SCHEME).split("/")
    if not (
        text.startswith(_SCHEME)
        and len(segments) == _SEGMENTS
        and all(_is_segment(segment) for segment in segments)
    ):
        raise FormatError(reason, f"expected kbs:///repository/type/tag, found {text[:80]!r}")
    return ResourceUri(*segments)


def _is_segment(text: str) -> bool:
    return 0 < len(text) <= _MAX_SEGMENT_BYTES and text[0] in _FIRST and _REST.issuperset(text)
