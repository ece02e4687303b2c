"""HTTP/1.1 over TLS, under caps: the only client in the guest.

RFC 9110 and 9112 as httpx implements them, narrowed: only https (except for `ccinit.net.metadata`),
no redirects, no proxy or other setting from the environment, no cookies, no content codings. A
reply is bounded in headers, body, silence and total time, and a body that ends early is an error.
The callers in `ccinit.attest` and `ccinit.pull` decide what a status means.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, Self

import httpcore
import httpx

from ccinit.errors import LimitExceededError, PeerError
from ccinit.net.http_date import parse_http_date
from ccinit.net.reply_head import find_body_fault, verify_head, verify_range
from ccinit.net.stream import Deadline, DeadlineBackend, Dial, dial_tcp, name_target
from ccinit.values import field, frozen

Headers = tuple[tuple[str, str], ...]

KEPT_HEADERS: Final = frozenset(
    ("content-type", "link", "location", "retry-after", "set-cookie", "www-authenticate")
)
"""The headers that a caller reads."""

_MAX_REFUSAL_BYTES = 64 * 1024  # the body of a reply other than the download
_PORTS: Final = {"https": 443, "http": 80}
_LONG_BODY_BYTES = 16 * 1024 * 1024
_READ_BYTES = 64 * 1024
_KEPT_CONNECTIONS = 4
"""For a registry, its token service, and the store that it redirects layers to, used in turn.

With fewer connections, each of them would need a new handshake for every layer.
"""
_IDLE_SECONDS = 30.0
"""NAT and load balancers silently drop idle connections, some after a minute.

The next request on such a connection would wait in vain.
"""
_REQUEST_HEADERS = (
    ("user-agent", "ccinit"),
    ("accept", "*/*"),
    ("accept-encoding", "identity"),
    ("connection", "keep-alive"),
)


@frozen
class HttpLimits:
    """Limits of one request.

    Attributes:
        wait_seconds: the longest silence: while connecting, and in each read or write.
        total_seconds: the whole request, from the first packet to the last.
        max_header_bytes: names and values together; the library has a cap of its own, 100 KiB.
        max_body_bytes: of the reply.
    """

    wait_seconds: float = 30.0
    total_seconds: float = 60.0
    max_header_bytes: int = 64 * 1024
    max_body_bytes: int = 1024 * 1024


DEFAULT_LIMITS: Final = HttpLimits()


@frozen
class HttpReply:
    """One reply.

    Attributes:
        status: 200 to 599.
        headers: those of `KEPT_HEADERS`, names in lower case, in their order.
        body: empty if it went to a sink, or is a refusal's that may not be taken (`reply_head`);
            `repr` leaves it out.
        date: the `Date` header in seconds since 1970, or None without a valid one.
    """

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    date: int | None

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> tuple[str, ...]:
        """Return all values of a header, by its lower-case name, in their order."""
        return tuple(value for key, value in self.headers if key == name)

    @property
    def retry_after_seconds(self) -> float | None:
        """Return how long the server asks to wait, if it does; the caller has to cap it.

        The header has seconds or a date (RFC 9110 section 10.2.3), which counts from the reply's
        date.
        """
        text = self.header("retry-after") or ""
        if text.isascii() and text.isdigit():
            return float(text)
        date = parse_http_date(text)
        return None if date is None or self.date is None else float(max(0, date - self.date))


class HttpClient:
    """Requests to https services under one TLS context; one at a time, with kept connections."""

    def __init__(
        self, context: ssl.SSLContext, *, dial: Dial = dial_tcp, plain_host: str = ""
    ) -> None:
        """Nothing is sent yet.

        Args:
            context: see `pinned_context`.
            dial: how to reach a host and port.
            plain_host: the one host to speak to without TLS; see `ccinit.net.metadata`.
        """
        self._deadline = Deadline()
        self._plain_host = plain_host
        # Not in an `httpx.Client`: that reads the environment, and of every reply the cookies and
        # where a redirect leads, even if it follows none. Both are a stranger's words, on which it
        # fails in its own ways and imports modules, which a child cannot do any more.
        self._transport = _PinnedTransport(context, DeadlineBackend(self._deadline, dial))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        limits: HttpLimits = DEFAULT_LIMITS,
    ) -> HttpReply:
        """Send one request and return the whole reply, whatever its status.

        Raises:
            PeerError: `net.…`.
            LimitExceededError: `net.headers` or `net.body`.
        """
        with self._send(method, url, headers, body, limits) as response:
            return _collect_reply(response, limits.max_body_bytes)

    def stream_get(
        self,
        url: str,
        *,
        headers: Headers = (),
        sink: Callable[[bytes], None],
        limits: HttpLimits,
        offset: int = 0,
    ) -> HttpReply:
        """Download into `sink`, from byte `offset` on; only the body of a success goes there.

        A reply with a status other than 200 (or 206, if an offset is asked for) is returned with
        its body, at most 64 KiB. `limits.max_body_bytes` counts the bytes of this reply.

        Raises:
            PeerError: `net.range`, the service sends a different part; other `net.…`.
            LimitExceededError: `net.headers` or `net.body`.
        """
        if offset:
            headers = (*headers, ("range", f"bytes={offset}-"))
        with self._send("GET", url, headers, b"", limits) as response:
            if response.status_code not in (200, 206):
                return _collect_reply(response, min(limits.max_body_bytes, _MAX_REFUSAL_BYTES))
            if fault := find_body_fault(response, limits.max_body_bytes):
                raise fault
            verify_range(response, offset)
            if _is_long(response):
                _read_long_body(response, sink)
            else:
                _read_body(response, sink, limits.max_body_bytes)
            return _reply(response, b"")

    @contextmanager
    def _send(
        self, method: str, url: str, headers: Headers, body: bytes, limits: HttpLimits
    ) -> Iterator[httpx.Response]:
        self._deadline.start(total_seconds=limits.total_seconds, wait_seconds=limits.wait_seconds)
        parsed = _parse_url(url, self._plain_host)
        target = name_target(_host_of(parsed), parsed.port or _PORTS[parsed.scheme])
        # httpx would set it, too, but would decode an `xn--` name for that: see `_host_of`.
        sent = httpx.Headers((("Host", parsed.netloc.decode("ascii")), *_REQUEST_HEADERS))
        sent.update(headers)
        request = httpx.Request(method, parsed, headers=sent, content=body)
        try:
            with closing(self._transport.handle_request(request)) as response:
                verify_head(response, limits.max_header_bytes)
                yield response
        except httpcore.ProtocolError as error:
            raise self._protocol_error(target) from error

    def _protocol_error(self, target: str) -> PeerError:
        """Return how a reply failed: none came, it was cut off, or it breaks the protocol."""
        if self._deadline.ended and not self._deadline.received_bytes:
            return PeerError("net.closed", f"{target}: closed without an answer")
        if self._deadline.ended:
            return PeerError("net.truncated", f"{target}: ended within a reply")
        return PeerError("net.protocol", f"{target}: broke the HTTP protocol")


class _PinnedTransport(httpx.BaseTransport):
    """Takes a TLS context; httpx's own transport reads certificates that the environment names."""

    def __init__(self, context: ssl.SSLContext, backend: DeadlineBackend) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            network_backend=backend,
            max_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            http2=False,
            retries=0,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_BodyStream(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _BodyStream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        """Let the connection be used again, unless more has come on it than the reply.

        That is no answer to anything (RFC 9112 section 6.3), but the library would take it for the
        beginning of the next one.
        """
        self._response.close()
        if _has_more(self._response):
            connection: httpcore.NetworkStream = self._response.extensions["network_stream"]
            connection.close()


def _has_more(response: httpcore.Response) -> bool:
    """Whether bytes behind the reply wait in the library, which does not tell in another way."""
    stream: Any = response.stream
    more, _is_end = stream._stream._connection._h11_state.trailing_data  # noqa: SLF001
    return bool(more)


def _parse_url(url: str, plain_host: str) -> httpx.URL:
    """Raises: PeerError: `net.url`."""
    if not url.isascii():  # RFC 3986; and see `_host_of`
        raise PeerError("net.url", "not a URL")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise PeerError("net.url", "not a URL") from error
    host = _host_of(parsed)
    scheme = "http" if plain_host and host == plain_host else "https"
    if parsed.scheme != scheme:
        raise PeerError("net.url", f"only {scheme} is spoken")
    if not host or parsed.userinfo or parsed.fragment:
        raise PeerError("net.url", "expected a host, and neither user nor fragment")
    return parsed


def _host_of(url: httpx.URL) -> str:
    """Return the host in the form in which it is resolved.

    `url.host` would decode IDNA, which fails for some names, with a codec that Python loads on
    first use, when a child can no longer read files.
    """
    return url.raw_host.decode("ascii")


def _read_body(response: httpx.Response, sink: Callable[[bytes], None], max_bytes: int) -> None:
    received = 0
    for chunk in response.iter_raw():
        received += len(chunk)
        if received > max_bytes:
            raise LimitExceededError("net.body", f"more than {max_bytes} bytes")
        sink(chunk)


def _is_long(response: httpx.Response) -> bool:
    """Whether a body of known length is so long that losing the connection is worth it."""
    if "transfer-encoding" in response.headers:
        return False
    return int(response.headers["content-length"]) >= _LONG_BODY_BYTES


def _read_long_body(response: httpx.Response, sink: Callable[[bytes], None]) -> None:
    """Read a body directly from its connection: the library would copy each byte three more times.

    The library has read the head, whose length is within the cap (`reply_head`), and with it the
    beginning of the body, which is its first piece. It never sees the rest, so the connection is
    closed with the reply, at the price of another handshake.
    """
    connection: httpcore.NetworkStream = response.extensions["network_stream"]
    left = int(response.headers["content-length"])
    pieces = response.iter_raw()  # keep it: dropping it closes the connection
    data = next(pieces)
    while True:
        left -= len(data)
        sink(data)
        if not left:
            return
        data = connection.read(min(left, _READ_BYTES))
        if not data:
            raise httpcore.RemoteProtocolError("the body ends early")


def _collect_reply(response: httpx.Response, max_bytes: int) -> HttpReply:
    """Read a reply; a refusal whose body may not be taken is returned without it."""
    body = bytearray()
    fault = find_body_fault(response, max_bytes)
    if fault is None:
        try:
            _read_body(response, body.extend, max_bytes)
        except LimitExceededError as error:
            fault = error
    if fault is not None:
        if response.is_success:
            raise fault
        body.clear()
    return _reply(response, bytes(body))


def _reply(response: httpx.Response, body: bytes) -> HttpReply:
    return HttpReply(
        status=response.status_code,
        headers=tuple(
            (name, value) for name, value in response.headers.multi_items() if name in KEPT_HEADERS
        ),
        body=body,
        date=parse_http_date(response.headers.get("date")),
    )
