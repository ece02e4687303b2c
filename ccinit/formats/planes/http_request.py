"""One HTTP/1.1 request as a server reads it (RFC 9112), narrowed to what small local APIs need.

A request line in origin form, header lines without folding, one Host, and a body only with
Content-Length. The rest of HTTP (chunks, upgrades, several requests in a row) is refused or not
used: a connection carries one request. The only expectation is `100-continue` (RFC 9110 section
10.1.1).
"""

from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.encoding.alphabet import DIGITS, LETTERS, UPPERCASE
from ccinit.values import frozen, replace

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 8 * 1024
_MAX_HEADERS: Final = 64
_MAX_PARAMETERS: Final = 8
_MAX_METHOD_BYTES: Final = 16
_END: Final = b"\r\n\r\n"
_TOKEN: Final = frozenset(LETTERS + DIGITS + "!#$%&'*+-.^_`|~")
_OLD: Final = "HTTP/1.0"
_VERSIONS: Final = (_OLD, "HTTP/1.1")
_NAME: Final = frozenset(LETTERS + DIGITS + "-._~!$&'()*+,;=%")  # RFC 3986, reg-name
_LITERAL: Final = frozenset(DIGITS + "abcdefABCDEF:.")  # and what is between its brackets


class HttpRequestError(FormatError):
    """A request is refused; `status` is the status code of the reply."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.status = status


@frozen
class HttpRequest:
    """A request.

    Attributes:
        path: as it was sent; escapes stay.
        parameters: of the query, decoded as those of a form; each name occurs once.
    """

    method: str
    path: str
    parameters: dict[str, str]
    body: bytes


@frozen
class _Head:
    """A request whose body is still empty.

    Attributes:
        body_bytes: length of the body.
        expects_continue: whether the client may wait for a status of 100 before it sends the body.
    """

    request: HttpRequest
    body_bytes: int
    expects_continue: bool


class HttpRequestReader:
    """Collects the bytes of one request."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: _Head | None = None  # once complete; the body may follow in several pieces

    def feed(self, data: bytes) -> HttpRequest | None:
        """Add bytes; return the request once it is complete. What follows it is never read.

        Raises:
            HttpRequestError: `http.…`.
        """
        seen = len(self._buffer)
        self._buffer += data
        if self._head is None:
            self._head = self._take_head(max(0, seen - len(_END) + 1))
        if self._head is None or len(self._buffer) < self._head.body_bytes:
            return None
        body = bytes(self._buffer[: self._head.body_bytes])
        return replace(self._head.request, body=body)

    @property
    def awaits_continue(self) -> bool:
        """Whether the client may be waiting for a status of 100: none of its body has come."""
        return self._head is not None and self._head.expects_continue and not self._buffer

    def _take_head(self, start: int) -> "_Head | None":
        """Take the head off the buffer if it is complete; look for its end from `start` on."""
        end = self._buffer.find(_END, start)
        if (len(self._buffer) if end < 0 else end) > MAX_HEAD_BYTES:
            raise HttpRequestError(431, "http.head", f"more than {MAX_HEAD_BYTES} bytes")
        if end < 0:
            return None
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + len(_END)]
        return _read_head(lines)


def _read_head(lines: list[bytes]) -> _Head:
    method, target, version = _read_line(lines[0])
    path, _, query = target.partition("?")
    request = HttpRequest(method=method, path=path, parameters=_read_query(query), body=b"")
    headers = _read_headers(lines[1:])
    _check_host(headers.get("host", []), version)
    return _Head(
        request=request,
        body_bytes=_body_bytes(headers),
        expects_continue=_expects_continue(headers.get("expect", []), version),
    )


def _read_line(line: bytes) -> tuple[str, str, str]:
    """Return method, target and version."""
    parts = _ascii(line).split(" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        raise HttpRequestError(400, "http.line", "expected METHOD /target HTTP/1.1")
    method, target, version = parts
    if not 0 < len(method) <= _MAX_METHOD_BYTES or not set(method) <= set(UPPERCASE):
        raise HttpRequestError(400, "http.method", "not a method's name")
    if not target.startswith("/") or "#" in target or "\t" in target:
        raise HttpRequestError(400, "http.target", "expected a path that begins with /")
    return method, target, version


def _read_headers(lines: list[bytes]) -> dict[str, list[str]]:
    """Return all values by their names in lower case."""
    if len(lines) > _MAX_HEADERS:
        raise HttpRequestError(431, "http.headers", f"more than {_MAX_HEADERS}")
    found: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = _ascii(line).partition(":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise HttpRequestError(400, "http.header", "expected name: value")
        found.setdefault(name.lower(), []).append(value.strip(" \t"))
    return found


def _check_host(values: list[str], version: str) -> None:
    """Check that a request names one host (section 3.2); in HTTP/1.0 it may name none."""
    if not values and version != _OLD:
        raise HttpRequestError(400, "http.host", "no Host")
    if len(values) > 1 or not all(map(_is_host, values)):
        raise HttpRequestError(400, "http.host", "expected one Host, a host[:port]")


def _is_host(text: str) -> bool:
    """Whether it is a host with or without a port (RFC 9110 section 7.2), or empty."""
    if text.startswith("["):
        literal, bracket, port = text[1:].partition("]")
        is_named = bracket != "" and literal != "" and _LITERAL.issuperset(literal)
    else:
        name, colon, port = text.partition(":")
        port = colon + port
        is_named = _NAME.issuperset(name)
    return is_named and (not port or (port[0] == ":" and set(port[1:]) <= set(DIGITS)))


def _expects_continue(values: list[str], version: str) -> bool:
    """Return whether the client expects `100-continue`; in HTTP/1.0 the header is ignored."""
    if not values or version == _OLD:
        return False
    if len(values) > 1 or values[0].lower() != "100-continue":
        raise HttpRequestError(417, "http.expect", "only 100-continue can be expected")
    return True


def _body_bytes(headers: dict[str, list[str]]) -> int:
    """Return the length of the body that the headers announce."""
    if "transfer-encoding" in headers:
        raise HttpRequestError(411, "http.length", "a body has to have a Content-Length")
    found = headers.get("content-length")
    if found is None:
        return 0
    if len(found) > 1 or not 0 < len(found[0]) <= 8 or not set(found[0]) <= set(DIGITS):
        raise HttpRequestError(400, "http.length", "expected one Content-Length in digits")
    if int(found[0]) > MAX_BODY_BYTES:
        raise HttpRequestError(413, "http.body", f"more than {MAX_BODY_BYTES} bytes")
    return int(found[0])


def _read_query(query: str) -> dict[str, str]:
    if not query:
        return {}
    # PID 1 uses the types of this module but reads no request; this import takes 240 KiB.
    from urllib.parse import parse_qsl  # noqa: PLC0415

    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise HttpRequestError(400, "http.query", "not the form of a query") from error
    if len(dict(pairs)) != len(pairs):
        raise HttpRequestError(400, "http.query", "a parameter occurs twice")
    return dict(pairs)


def _ascii(data: bytes) -> str:
    text = data.decode("latin-1")
    if not all(" " <= letter <= "~" or letter == "\t" for letter in text):
        raise HttpRequestError(400, "http.characters", "expected printable ASCII")
    return text
