"""A registry over TLS that serves an image, and tells any lie about it that a test asks for.

A lie belongs to the ending of a URL: other bytes, a cut, a reset, silence, drops of a byte at a
time, another status, other headers, or bytes that are no HTTP at all. It also plays the token
service (`/token`), the list of referrers, and the storage that a registry redirects to; whoever
asked what, with which headers, is in `requests`.

    with serve_hostile(image, context) as registry:
        registry.faults["/blobs/sha256:…"] = Fault(cut=1000)
"""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from tests.fakes.images.registry import FakeImage


@dataclass
class Fault:
    """How one URL ending is answered; the numbers are bytes and seconds.

    Attributes:
        status: instead of 200.
        headers: added or replaced; None removes one.
        body: instead of the right one.
        raw: instead of an answer of HTTP's.
        cut: send so many bytes, then close; `times` says for how many requests.
        reset: with `cut`: close by a reset instead of an orderly end.
        stall: wait so long before the body's second half.
        drip: send one byte, wait so long, and so on.
        endless: repeat the body for ever, in chunks.
        ignore_range: answer 200 with everything to a range request.
        lie_about_range: answer a range request with another range.
        range_bytes: send no more than that of a range; 0 is all of it.
    """

    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    raw: bytes | None = None
    cut: int | None = None
    reset: bool = False
    times: int = 1_000_000
    stall: float = 0.0
    drip: float = 0.0
    endless: bool = False
    ignore_range: bool = False
    lie_about_range: bool = False
    range_bytes: int = 0


class HostileRegistry:
    """Serves an image, and for chosen URL endings a fault.

    Attributes:
        documents: further manifests and indexes by digest or tag, with their types.
        others: bodies by path, for what is neither a manifest nor a blob.
        requests: paths and headers, in order.
    """

    def __init__(self, image: FakeImage, documents: Mapping[str, tuple[bytes, str]]) -> None:
        self.image = image
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.documents = {image.digest: (image.manifest, image.content_type), **documents}
        self.others: dict[str, bytes] = {}
        self.port = 0

    def find(self, path: str) -> tuple[bytes, str] | None:
        name = path.rpartition("/")[2]
        if path.partition("?")[0] in self.others:
            return self.others[path.partition("?")[0]], "application/json"
        if "/manifests/" in path:
            return self.documents.get(name)
        blob = self.image.blobs.get(name)
        return None if blob is None else (blob, "application/octet-stream")

    def fault(self, path: str) -> Fault | None:
        for ending, fault in self.faults.items():
            if path.partition("?")[0].endswith(ending) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def authorized(self) -> list[str]:
        """Paths that were asked for with credentials."""
        return [path for path, headers in self.requests if "authorization" in headers]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: ClassVar[HostileRegistry]

    def do_GET(self) -> None:
        registry = self.registry
        registry.requests.append((self.path, dict(self.headers.items())))
        fault = registry.fault(self.path) or Fault()
        found = registry.find(self.path)
        if fault.raw is not None:
            self.wfile.write(fault.raw)
            self.close_connection = True
            return
        if fault.body is not None:
            found = (fault.body, "application/octet-stream" if found is None else found[1])
        if found is None and fault.status == 200:
            self._send(404, b"", {}, Fault())
            return
        body, content_type = found or (b"", "text/plain")
        status = fault.status
        if status != 200 and fault.body is None:
            body = b""
        headers: dict[str, str | None] = {"Content-Type": content_type}
        requested = self.headers.get("Range")
        if requested and status == 200 and not fault.ignore_range:
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self._send(416, b"", headers, fault)
                return
            told = start // 2 if fault.lie_about_range else start
            end = min(len(body), told + (fault.range_bytes or len(body)))
            headers["Content-Range"] = f"bytes {told}-{end - 1}/{len(body)}"
            body, status = body[told:end], 206
        self._send(status, body, headers, fault)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str | None], fault: Fault
    ) -> None:
        framing: dict[str, str | None] = {"Content-Length": str(len(body))}
        if fault.endless:
            framing = {"Transfer-Encoding": "chunked"}
        self.send_response(status)
        for name, value in {**headers, **framing, **fault.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        try:
            self._send_body(body, fault)
        except (OSError, ssl.SSLError):
            self.close_connection = True

    def _send_body(self, body: bytes, fault: Fault) -> None:
        if fault.cut is not None:
            self.wfile.write(body[: fault.cut])
            self.wfile.flush()
            self.close_connection = True
            if fault.reset:
                self._reset()
            return
        if fault.endless:
            while True:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
        if fault.drip:
            for position in range(len(body)):
                self.wfile.write(body[position : position + 1])
                self.wfile.flush()
                threading.Event().wait(fault.drip)
            return
        if fault.stall:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            threading.Event().wait(fault.stall)  # tests may replace time.sleep
            body = body[half:]
        self.wfile.write(body)

    def _reset(self) -> None:
        """Close so that the kernel sends a reset: nothing lingers, nothing is told."""
        lingers_not = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingers_not)
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what the tests want."""


@contextmanager
def serve_hostile(
    image: FakeImage,
    context: ssl.SSLContext,
    documents: Mapping[str, tuple[bytes, str]] | None = None,
) -> Iterator[HostileRegistry]:
    """Serve on a free port of loopback until the end of the block."""
    registry = HostileRegistry(image, documents or {})
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = _Server(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
