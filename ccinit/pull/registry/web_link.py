"""`Link` headers (RFC 8288 section 3), by which a registry says where its next page is."""

from collections.abc import Iterable, Iterator

from ccinit.errors import PeerError
from ccinit.formats.encoding.alphabet import DIGITS, LETTERS

_MAX_BYTES = 8 * 1024
_BLANKS = " \t"
_TOKEN = LETTERS + DIGITS + "!#$%&'*+-.^_`|~"  # RFC 9110 section 5.6.2


def find_link(headers: Iterable[str], relation: str) -> str | None:
    """Return the target, as written, of the first link that has the relation, or None.

    Args:
        headers: each `Link` of a reply.
        relation: a registered one, in lower case.

    Raises:
        PeerError: `registry.link`, a header before that link is malformed, or longer than 8 KiB.
    """
    for header in headers:
        if len(header) > _MAX_BYTES:
            raise PeerError("registry.link", f"longer than {_MAX_BYTES} bytes")
        for target, relations in _parse(header):
            if relation in relations:
                return target
    return None


def _parse(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the target and the relations of each link."""
    while text := text.lstrip(_BLANKS + ","):
        target, bracket, text = text[1:].partition(">") if text[0] == "<" else ("", "", "")
        if not bracket:
            raise PeerError("registry.link", "expected <target>")
        relations: list[str] | None = None
        while (text := text.lstrip(_BLANKS)).startswith(";"):
            name, value, text = _cut_parameter(text[1:].lstrip(_BLANKS))
            if name == "rel" and relations is None:  # of several the first one counts
                relations = value.lower().split()
        if text and text[0] != ",":
            raise PeerError("registry.link", "expected a comma between links")
        yield target, relations or []


def _cut_parameter(text: str) -> tuple[str, str, str]:
    """Return name and value of the parameter at the start, and what follows; both may be empty."""
    name, rest = _cut_token(text)
    after = rest.lstrip(_BLANKS)
    if not after.startswith("="):
        return name.lower(), "", rest
    after = after[1:].lstrip(_BLANKS)
    value, rest = _cut_quoted(after[1:]) if after.startswith('"') else _cut_token(after)
    return name.lower(), value, rest


def _cut_token(text: str) -> tuple[str, str]:
    rest = text.lstrip(_TOKEN)
    return text[: len(text) - len(rest)], rest


def _cut_quoted(text: str) -> tuple[str, str]:
    """Return the content of a quoted string whose first quote is off, and what follows it."""
    value, is_escaped = "", False
    for position, character in enumerate(text):
        if not is_escaped and character == '"':
            return value, text[position + 1 :]
        is_escaped = not is_escaped and character == "\\"
        value += "" if is_escaped else character
    raise PeerError("registry.link", "an open quote")
