"""A guest's HTTP client whose resolver is the host's: runs in namespaces of its own, as root.

Asks an HTTPS server for something twice, first with a resolver that lies, then with one that does
not, and prints how both ended. The resolver file is the one that a guest writes for an offer.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ccinit.boot.network_offer import NetworkPlan
from ccinit.errors import CcinitError
from ccinit.net.http import HttpClient, HttpLimits
from ccinit.net.tls import pinned_context
from tests.fakes.network.tls_server import TlsServer, answer, make_authority, server_context

NAME = "kbs.example"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LIMITS = HttpLimits(wait_seconds=20.0, total_seconds=25.0, max_body_bytes=1000)
_HEADER = struct.Struct(">HHHHHH")
_A, _CNAME, _IN = 1, 5, 1
_REPLY, _FAILURE, _NXDOMAIN, _TRUNCATED = 0x8180, 0x8182, 0x8183, 0x8380
_QUESTION = b"\xc0\x0c"  # a pointer to the name that was asked for (RFC 1035, section 4.1.4)
_UDP_BYTES = 512

Zone = Callable[[bytes, int], tuple[int, list[bytes]]]
"""From the question's type to flags and records."""


def record(kind: int, data: bytes, owner: bytes = _QUESTION) -> bytes:
    return owner + struct.pack(">HHIH", kind, _IN, 1, len(data)) + data


def address(*hosts: str) -> Zone:
    records = [record(_A, socket.inet_aton(host)) for host in hosts]
    return lambda _name, kind: (_REPLY, records if kind == _A else [])


def circle(name: bytes, _kind: int) -> tuple[int, list[bytes]]:
    """An alias of an alias of the name itself."""
    other = b"\x05other" + name[4:]
    return _REPLY, [record(_CNAME, other), record(_CNAME, name, owner=other)]


def broken(_name: bytes, _kind: int) -> tuple[int, list[bytes]]:
    """What a resolver says that has no answer from others; silence is the same to its clients."""
    return _FAILURE, []


def absent(_name: bytes, _kind: int) -> tuple[int, list[bytes]]:
    return _NXDOMAIN, []


ZONES: dict[str, Zone] = {
    "another's address": address("127.0.0.2"),
    "a closed address, then another's": address("127.0.0.3", "127.0.0.2"),
    "in circles": circle,
    "64 KiB of addresses": address(*["127.0.0.3"] * 4000),
    "no such name": absent,
    "no addresses": address(),
    "no answer": broken,
}


class Resolver:
    """Answers on port 53 of loopback, by UDP and, what is longer, by TCP."""

    def __init__(self) -> None:
        self.zone: Zone = absent
        self.asked = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 53))
        self._tcp = socket.create_server(("127.0.0.1", 53))
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def _serve_udp(self) -> None:
        while True:
            query, peer = self._udp.recvfrom(65536)
            reply = self._answer(query)
            if len(reply) > _UDP_BYTES:
                reply = self._head(query, _TRUNCATED, 0)
            self._udp.sendto(reply, peer)

    def _serve_tcp(self) -> None:
        while True:
            connection, _ = self._tcp.accept()
            with connection, connection.makefile("rwb") as stream:
                while size := stream.read(2):
                    reply = self._answer(stream.read(int.from_bytes(size, "big")))
                    stream.write(len(reply).to_bytes(2, "big") + reply)
                    stream.flush()

    def _answer(self, query: bytes) -> bytes:
        self.asked += 1
        end = query.index(b"\0", _HEADER.size) + 1
        (kind,) = struct.unpack_from(">H", query, end)
        flags, records = self.zone(query[_HEADER.size : end], kind)
        return self._head(query, flags, len(records)) + b"".join(records)

    @staticmethod
    def _head(query: bytes, flags: int, count: int) -> bytes:
        end = query.index(b"\0", _HEADER.size) + 5
        number = int.from_bytes(query[:2], "big")
        return _HEADER.pack(number, flags, 1, count, 0, 0) + query[_HEADER.size : end]


def use_own_resolver() -> None:
    """See the world as a guest does after the host's offer of this resolver."""
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    subprocess.run(("mount", "-t", "tmpfs", "tmpfs", "/mnt"), check=True)
    plan = NetworkPlan(
        mac="",
        address="127.0.0.1",
        prefix=8,
        gateway="",
        gateway_on_link=False,
        mtu=1500,
        dns=("127.0.0.1",),
    )
    files = {"resolv.conf": plan.resolver_file(), "nsswitch.conf": "hosts: files dns\n"}
    for name, text in files.items():
        path = Path("/mnt") / name
        path.write_text(text)
        subprocess.run(("mount", "--bind", path, Path("/etc") / name), check=True)


def main(case: str) -> dict[str, object]:
    use_own_resolver()
    authority, resolver = make_authority(), Resolver()
    told: list[str] = []
    with (
        TlsServer(server_context(authority.issue((NAME,))), answer(OK)) as good,
        TlsServer(
            server_context(authority.issue(("other.example",))),
            answer(OK),
            address="127.0.0.2",
            port=good.port,
        ) as bad,
        HttpClient(pinned_context(authority.pem, check_time=True)) as client,
    ):
        began = time.monotonic()
        for zone in (ZONES[case], address("127.0.0.1")):
            resolver.zone = zone
            try:
                reply = client.request("GET", good.url(host=NAME), limits=LIMITS)
                told.append(reply.body.decode())
            except CcinitError as error:
                told.append(error.reason)
        return {
            "told": told,
            "asked": resolver.asked,
            "handshakes": bad.handshakes,
            "connections": good.connections,
            "seconds": time.monotonic() - began,
        }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
