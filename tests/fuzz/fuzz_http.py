"""Invariant: whatever a server answers is a reply within its limits or an error of ours, and a body
that is taken is the one that Python's own reader finds; whatever a registry's answers point to is
an URL that can be asked, or the pull ends with an error of ours; and for none of it a module is
loaded, which the child that reads it could not do.

Run as `python -m tests.fuzz.fuzz_http [SECONDS [SEED]]`.
"""

import contextlib
import hashlib
import http.client
import io
import json
import random
import socket
import ssl
import sys
from collections.abc import Sequence
from typing import Self
from unittest.mock import patch

from ccinit.errors import CcinitError, PeerError
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.net.http import Headers, HttpClient, HttpLimits, HttpReply
from ccinit.net.http_date import parse_http_date
from ccinit.net.proxy import dial_through
from ccinit.pull.registry.attachments import find_signatures
from ccinit.pull.registry.client import Registry, RegistryLimits
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

HOST = "plain.example"
URL = f"http://{HOST}/a"
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
LIMITS = HttpLimits(max_body_bytes=4096, max_header_bytes=4096)
REFERENCE = parse_image_reference("registry.team.example:5000/team/app@sha256:" + "ab" * 32)
PATIENCE = RegistryLimits(total_seconds=60.0, attempts=3)
REFERRERS = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }
).encode()
DATE = "Thu, 26 Nov 2026 12:00:00 GMT"
HEAD = f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\nServer: x\r\n"
ANSWERS = tuple(
    text.encode()
    for text in (
        f"{HEAD}Content-Length: 5\r\nSet-Cookie: a=b; Expires={DATE}; Path=/\r\n\r\nhello",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 206 x\r\nContent-Range: bytes 3-7/8\r\nContent-Length: 5\r\n\r\nworld",
        'HTTP/1.1 401 x\r\nContent-Length: 0\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n',
        f"HTTP/1.0 503 Busy\r\nRetry-After: {DATE}\r\nContent-Length: 2\r\n\r\n{{}}",
        "HTTP/1.1 307 x\r\nLocation: https://xn--mnchen-3ya.example/a\r\nContent-Length: 0\r\n\r\n",
    )
)
NOISE = (
    *(b"\r\n", b"\n", b"\r\n\r\n", b"\r\n ", b": ", b"0", b"-1", b"1e9", b"\0", b"\xff", b"\x85"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n"),
    *(b"Set-Cookie: =; expires=\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"ffffffff\r\n", b";" * 50),
    *(b"9999", b"99:99:99", b"31 Dec", b"0000", b", ", b"Connection: close\r\n"),
    *(b"Location: https://xn--999999999/\r\n", b"xn--", b"://", b"[", b":99999", b"%", b"\xc3\x9f"),
)
IMAGE = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
NEXT = (
    f"<https://h.example/v2/a/referrers/{IMAGE}?n=2>; rel=\"next\"; title='a', <b>;rel=x".encode()
)
DATES = (DATE.encode(), b"Fri, 31 Dec 9999 23:59:59 GMT", b"120")
SAID = {
    "location": (
        *(b"https://cdn.team.example/blob?sig=a%2Fb#x", b"/v2/other", b"//store.example:8443/a"),
        *(b"https://xn--mnchen-3ya.example/", b"https://[2001:db8::1]:5000/"),
    ),
    "link": (NEXT,),
    "www-authenticate": (
        b'Bearer realm="https://auth.team.example/token",service="registry",scope="a:b:c"',
        b'Basic realm="x"',
    ),
    "retry-after": DATES,
    "date": DATES,
}
WORDS = (
    *(b"xn--", b"xn--999999", b"\xe2\x80\x8b", b"\xc3\x9f", b"%00", b"%", b"@", b"[", b"]", b":"),
    *(b":99999", b":0", b"..", b"//", b"\\", b"\t", b"\n", b"#", b'"', b'\\"', b";", b"," * 9),
    *(b"." * 70, b"a" * 70, b"127.1", b"localhost", b"0x7f", b"\xff", b"https:", b"http:"),
)
STATUSES = (200, 200, 200, 404, 206, 301, 302, 307, 308, 401, 403, 404, 429, 503)


class Server:
    """Says one thing to whoever comes, whatever they ask, and closes its side."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._ends: list[socket.socket] = []  # one that is closed could not be asked

    def dial(self, _host: str, _port: int, _seconds: float) -> socket.socket:
        client, server = socket.socketpair()
        self._ends.append(server)
        server.sendall(self._answer)
        server.shutdown(socket.SHUT_WR)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            end.close()


def nobody(_host: str, _port: int, _seconds: float) -> socket.socket:
    raise ConnectionRefusedError


def download(answer: bytes) -> tuple[HttpReply | str, bytes]:
    """Return the reply or the reason of a refusal, and what has reached the sink."""
    taken = bytearray()
    with (
        Server(answer) as server,
        HttpClient(CONTEXT, dial=server.dial, plain_host=HOST) as client,
    ):
        try:
            reply = client.stream_get(URL, sink=taken.extend, limits=LIMITS, offset=3)
        except CcinitError as error:
            return error.reason, bytes(taken)
        finally:
            assert len(taken) <= LIMITS.max_body_bytes
    return reply, bytes(taken)


def check_answer(answer: bytes) -> bool:
    """Read an answer as a reply, as the rest of a download, and as a proxy's; say if it is one."""
    with patch("ccinit.net.http._LONG_BODY_BYTES", 1):
        long = download(answer)
    assert download(answer) == long
    with (
        Server(answer) as server,
        HttpClient(CONTEXT, dial=server.dial, plain_host=HOST) as client,
    ):
        reply = None
        with contextlib.suppress(CcinitError):
            reply = client.request("GET", URL, limits=LIMITS)
    with Server(answer) as proxy, contextlib.suppress(PeerError):
        dial_through("proxy.example:3128", proxy.dial)(HOST, 443, 5.0).close()
    if reply is None:
        return False
    assert 200 <= reply.status < 600
    assert len(reply.body) <= LIMITS.max_body_bytes
    check_agreement(answer, reply)
    return True


def check_agreement(answer: bytes, reply: HttpReply) -> None:
    """Compare with `http.client`, where that reads as RFC 9112 asks.

    It knows no interim reply but 100, leaves lines that go on as they are, and reads a body where
    there is none, or where a refusal counts without it.
    """
    stream = io.BytesIO(answer)
    stream.makefile = lambda *_: stream  # type: ignore[attr-defined]
    other = http.client.HTTPResponse(stream, method="GET")  # type: ignore[arg-type]
    try:
        other.begin()
        body = other.read()
    except (http.client.HTTPException, ValueError):
        return
    is_folded = any("\n" in value for _name, value in other.getheaders())
    if other.status >= 200 and other.status not in {204, 304} and not is_folded:
        assert other.status == reply.status
        assert body == reply.body or (reply.status >= 300 and not reply.body)


class ScriptedHttp:
    """A client for `Registry` whose servers answer by chance; each URL goes through a real one."""

    def __init__(self, source: random.Random, real: HttpClient) -> None:
        self.asked = 0
        self._source = source
        self._real = real

    def request(
        self, method: str, url: str, *, headers: Headers, body: bytes = b"", limits: HttpLimits
    ) -> HttpReply:
        try:
            self._real.request(method, url, headers=headers, body=body, limits=limits)
        except PeerError as error:
            if error.reason != "net.unreachable":  # a real client would not have sent it
                raise
        self.asked += 1
        said = tuple((name, mutated(self._source, texts)) for name, texts in SAID.items())
        date = parse_http_date(dict(said)["date"])
        status = self._source.choice(STATUSES)
        body = self._source.choice((b'{"token":"abc"}', REFERRERS, REFERRERS, b""))
        return HttpReply(status=status, headers=said, body=body, date=date)

    def stream_get(self, *_: object, **_named: object) -> HttpReply:
        raise AssertionError("no blob is asked for")


def mutated(source: random.Random, texts: Sequence[bytes]) -> str:
    """Return a header's value: one as it should be, or changed."""
    text = source.choice(texts)
    return (mutate_text(source, text, WORDS) if source.randrange(3) else text).decode("latin-1")


def check_registry(source: random.Random, real: HttpClient) -> bool:
    """Ask a registry that answers by chance; return whether it was asked twice."""
    http = ScriptedHttp(source, real)
    registry = Registry(http, REFERENCE, None, PATIENCE, sleep=lambda _seconds: None)
    with contextlib.suppress(CcinitError):
        find_signatures(registry, (b"{}",))
    # A tag and eight pages, each with attempts, redirects and an authentication.
    assert http.asked <= 9 * 3 * (1 + 3 + 2)
    return http.asked > 1


def main(seconds: float, seed: int) -> int:
    """Check answers for a while; return how many."""
    trials = Trials(seconds, seed)
    read = asked = 0
    for answer in ANSWERS:
        assert check_answer(answer), answer
    loaded = set(sys.modules)
    with HttpClient(CONTEXT, dial=nobody) as real:
        for source in trials:
            read += check_answer(mutate_text(source, source.choice(ANSWERS), NOISE))
            asked += check_registry(source, real)
    assert set(sys.modules) == loaded
    trials.require(read, one_in=20)
    trials.require(asked, one_in=20)
    return trials.count


if __name__ == "__main__":
    run(main)
