"""The fake KBS behind real TLS: what a guest's whole client stack sees of one, and says to it.

One HTTP/1.1 request after another is read from each connection and given to `FakeKbs`; a fault that
raises ends the connection without an answer. Every byte that came is kept.
"""

import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Self

from ccinit.attest.client import KbsClient
from ccinit.attest.patience import AttestLimits
from ccinit.attest.ports import HttpTransport
from ccinit.errors import PeerError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.net.http import HttpClient, HttpLimits, HttpReply
from ccinit.net.tls import pinned_context
from tests.fakes.kbs.http import URL, FakeKbs, evidence_for
from tests.fakes.network.tls_server import (
    Authority,
    TlsServer,
    make_authority,
    read_head,
    server_context,
)
from tests.fakes.platforms.sample_device import SampleDevice

DOCUMENT = 'version = "0.1.0"\n'
QUICK = AttestLimits(total_seconds=20.0, request_seconds=10.0, first_delay_seconds=0.02)
"""Patience that no case here uses up, on a slow machine either."""


@dataclass(kw_only=True)
class KbsServer:
    """A KBS on loopback; `requests` are the bytes of each request, head and body.

    Attributes:
        service: what answers in place of the KBS.
        base: what it takes for its own URL.
    """

    kbs: FakeKbs = field(default_factory=FakeKbs)
    authority: Authority = field(default_factory=make_authority)
    context: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    service: HttpTransport | None = None
    base: str = URL
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        context = self.context or server_context(self.authority.issue())
        self.server = self._stack.enter_context(TlsServer(context, self._serve))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return self.server.url(path="")

    def _serve(self, connection: socket.socket) -> None:
        while True:
            head = read_head(connection)
            head, _, body = head.partition(b"\r\n\r\n")
            line, *lines = head.decode("ascii").split("\r\n")
            method, path, _version = line.split(" ")
            headers = tuple(
                (name.lower(), value.strip())
                for name, _, value in (x.partition(":") for x in lines)
            )
            length = int(dict(headers).get("content-length", "0"))
            while len(body) < length:
                data = connection.recv(65536)
                if not data:
                    return  # the guest has given up within its request
                body += data
            self.requests.append(head + b"\r\n\r\n" + body)
            try:
                reply = (self.service or self.kbs).request(
                    method, self.base + path, headers=headers, body=body, limits=HttpLimits()
                )
            except PeerError:
                return
            connection.sendall(encode_reply(reply))


def encode_reply(reply: HttpReply) -> bytes:
    date = () if reply.date is None else (("date", formatdate(reply.date, usegmt=True)),)
    headers = (*reply.headers, *date, ("content-length", str(len(reply.body))))
    lines = [f"HTTP/1.1 {reply.status} Reason", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join((*lines, "", "")).encode() + reply.body


class Guest:
    """A guest's client over its own HTTP and TLS; use as a context manager."""

    def __init__(
        self,
        server: KbsServer,
        *,
        url: str = "",
        roots: str = "",
        key_algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.P256,
        devices: tuple[SampleDevice, ...] = (),
        limits: AttestLimits = QUICK,
    ) -> None:
        self._transport = HttpClient(
            pinned_context(roots or server.authority.pem, check_time=False)
        )
        self.client = KbsClient(
            url=url or server.url,
            transport=self._transport,
            tee=Tee.TPM,
            evidence_for=evidence_for,
            init_data=DOCUMENT,
            devices=devices,
            key_algorithm=key_algorithm,
            limits=limits,
        )

    def __enter__(self) -> KbsClient:
        return self.client

    def __exit__(self, *_: object) -> None:
        self._transport.close()
