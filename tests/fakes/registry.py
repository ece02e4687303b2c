"""Registries for tests: small images, an in-memory one for unit tests, a hostile one over TLS.

`FakeImage` is honest; a test takes its documents and blobs and tampers with one of them.
"""

import gzip
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from ccinit.errors import PeerError
from ccinit.formats.oci_image import MediaType
from ccinit.net.http import Headers, HttpLimits, HttpReply
from ccinit.pull.registry import RegistryLimits

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
REPOSITORY = "team/app"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


@dataclass(frozen=True, slots=True)
class FakeImage:
    """An image: its documents and blobs by digest; `digest` names `manifest`."""

    manifest: bytes
    config: bytes
    blobs: Mapping[str, bytes]
    content_type: str = MediaType.OCI_MANIFEST.value

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    def blob_names(self) -> list[str]:
        """Digests of the layers, bottom first."""
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]


def make_image(
    tars: Sequence[bytes],
    *,
    pack: Callable[[bytes], bytes] = lambda tar: gzip.compress(tar, mtime=0),
    media_type: str = f"{LAYER}+gzip",
    config: Mapping[str, object] | None = None,
    diff_ids: Sequence[str] | None = None,
) -> FakeImage:
    """Return an honest image with the given layer tars, unless told otherwise."""
    layers = [pack(tar) for tar in tars]
    image_config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config or {"Cmd": ["/bin/true"]}),
            "rootfs": {
                "type": "layers",
                "diff_ids": list(diff_ids or [digest_of(tar) for tar in tars]),
            },
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.OCI_MANIFEST.value,
            "config": descriptor(CONFIG, image_config),
            "layers": [descriptor(media_type, layer) for layer in layers],
        }
    ).encode()
    blobs = {digest_of(data): data for data in (image_config, *layers)}
    return FakeImage(manifest, image_config, blobs)


def make_index(image: FakeImage, *, platforms: Sequence[tuple[str, str]]) -> bytes:
    """Return an index that names the image's manifest for each (os, architecture)."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.OCI_INDEX.value,
            "manifests": [
                {
                    **descriptor(MediaType.OCI_MANIFEST.value, image.manifest),
                    "platform": {"os": name, "architecture": architecture},
                }
                for name, architecture in platforms
            ],
        }
    ).encode()


def reply(status: int, body: bytes = b"", **headers: str) -> HttpReply:
    """Return a reply; `content_type` and the like name headers."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpReply(status=status, headers=pairs, body=body, date=None)


@dataclass
class FakeHttp:
    """An `Http` in memory: scripted replies first, then what the image holds.

    A script entry is a reply, an error to raise, or a function of (sink, offset) that feeds bytes
    and raises.
    """

    image: FakeImage
    scripts: dict[str, list[object]] = field(default_factory=dict)
    seen: list[tuple[str, Headers]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def script(self, ending: str, *steps: object) -> None:
        """Let the next requests for URLs with this ending go so."""
        self.scripts[ending] = list(steps)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes = b"",
        limits: HttpLimits,  # noqa: ARG002
    ) -> HttpReply:
        assert method == ("POST" if body else "GET")
        self.bodies.append(body)
        self.seen.append((url, headers))
        step = self._next(url)
        if isinstance(step, HttpReply):
            return step
        if isinstance(step, Exception):
            raise step
        if url.endswith(f"/manifests/{self.image.digest}"):
            return reply(200, self.image.manifest, content_type=self.image.content_type)
        return reply(404)

    def stream_get(
        self,
        url: str,
        *,
        headers: Headers,
        sink: Callable[[bytes], None],
        limits: HttpLimits,  # noqa: ARG002
        offset: int,
    ) -> HttpReply:
        self.seen.append((url, (*headers, ("offset", str(offset)))))
        step = self._next(url)
        if isinstance(step, HttpReply):
            return step
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step(sink, offset)
            return reply(206 if offset else 200)
        data = self.image.blobs.get(url.rpartition("/")[2])
        if data is None:
            return reply(404)
        sink(data[offset:])
        return reply(206 if offset else 200)

    def _next(self, url: str) -> object:
        for ending, steps in self.scripts.items():
            if url.partition("?")[0].endswith(ending) and steps:
                return steps.pop(0)
        return None


def broken_after(data: bytes, reason: str = "net.truncated") -> Callable[..., None]:
    """A script step: feed `data` from the offset on, then break."""

    def step(sink: Callable[[bytes], None], offset: int) -> None:
        sink(data[offset:])
        raise PeerError(reason, "broken by the test")

    return step


class Waits(list[float]):
    """Stands for `time.sleep`; remembers what it was asked for."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


FAST = RegistryLimits(total_seconds=60, attempts=3)


@dataclass
class Fault:
    """How a hostile registry answers one URL ending; the numbers are bytes and seconds.

    Attributes:
        status: instead of 200.
        headers: added or replaced; None removes one.
        body: instead of the right one.
        cut: send so many bytes, then close; `times` says for how many requests.
        stall: wait so long before the body's second half.
        ignore_range: answer 200 with everything to a range request.
    """

    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    times: int = 1_000_000
    stall: float = 0.0
    ignore_range: bool = False


class HostileRegistry:
    """Serves an image, and for chosen URL endings a fault."""

    def __init__(self, image: FakeImage, documents: Mapping[str, tuple[bytes, str]]) -> None:
        self.image = image
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.documents = {image.digest: (image.manifest, image.content_type), **documents}
        self.port = 0

    def find(self, path: str) -> tuple[bytes, str] | None:
        name = path.rpartition("/")[2]
        if "/manifests/" in path:
            return self.documents.get(name)
        blob = self.image.blobs.get(name)
        return None if blob is None else (blob, "application/octet-stream")

    def fault(self, path: str) -> Fault | None:
        for ending, fault in self.faults.items():
            if path.endswith(ending) and fault.times > 0:
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: ClassVar[HostileRegistry]

    def do_GET(self) -> None:
        registry = self.registry
        registry.requests.append((self.path, dict(self.headers.items())))
        fault = registry.fault(self.path) or Fault()
        found = registry.find(self.path)
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
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        self._send(status, body, headers, fault)

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str | None], fault: Fault
    ) -> None:
        self.send_response(status)
        for name, value in {
            **headers,
            "Content-Length": str(len(body)),
            **fault.headers,
        }.items():
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
            return
        if fault.stall:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            threading.Event().wait(fault.stall)  # tests may replace time.sleep
            body = body[half:]
        self.wfile.write(body)

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
