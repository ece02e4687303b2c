"""Azure's metadata service, strict about what it is asked."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_POLL_SECONDS: Final = 0.01  # how long the server may take to see that it shall end


@dataclass(kw_only=True)
class Metadata:
    """What the service says.

    Attributes:
        vcek: certificate of this machine, DER.
        quote: makes a quote of a TD report.
        broken: answers lack what they are for.
        asked: paths so far.
    """

    host: str = ""
    vcek: bytes = b"der of a certificate"
    quote: Callable[[bytes], bytes] = lambda report: b"quote over " + report
    broken: bool = False
    asked: list[str] = field(default_factory=list)

    def certification(self) -> dict[str, str]:
        text = base64.encodebytes(self.vcek).decode()
        pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
        return {"vcekCert": "" if self.broken else pem, "tcbm": "00", "cacheControl": "1"}

    def td_quote(self, body: bytes) -> dict[str, str]:
        report = base64.urlsafe_b64decode(json.loads(body)["report"] + "==")
        quote = base64.urlsafe_b64encode(self.quote(report)).decode().rstrip("=")
        return {} if self.broken else {"quote": quote}


@contextmanager
def running_metadata() -> Iterator[Metadata]:
    """Run the service on loopback; `host` says where."""
    metadata = Metadata()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self._asked() == ("/metadata/THIM/amd/certification", "true")
            self._reply(metadata.certification())

        def do_POST(self) -> None:
            assert self._asked() == ("/acc/tdquote", "true")
            self._reply(metadata.td_quote(self.rfile.read(int(self.headers["content-length"]))))

        def _asked(self) -> tuple[str, str | None]:
            metadata.asked.append(self.path)
            return self.path, self.headers["metadata"]

        def _reply(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()
    metadata.host = f"127.0.0.1:{server.server_port}"
    try:
        yield metadata
    finally:
        server.shutdown()
        server.server_close()
