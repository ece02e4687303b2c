"""A guest that asks a hostile KBS for its secret, and why it gets none.

One server with one thing wrong in each case. The same guest gets its secret from the same server
untampered: every case begins with that, through the same lines.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ccinit.attest.patience import AttestLimits
from ccinit.errors import CcinitError
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from tests.fakes.kbs.http import FakeKbs, Fault
from tests.fakes.kbs.tls import QUICK, Guest, KbsServer
from tests.faults.plugin import FaultSeen

URI = parse_resource_uri("kbs:///ccinit/pod/file-a")
OTHER = parse_resource_uri("kbs:///ccinit/pod/file-b")
SECRET = b"the owner's secret"
GIVEN_UP = AttestLimits(total_seconds=1.0, request_seconds=0.4, first_delay_seconds=0.02)
"""Patience for cases that use it up."""

Tamper = Callable[[FakeKbs], None]


def body(uri: str = str(URI), kind: EnvelopeKind = EnvelopeKind.FILE) -> bytes:
    return encode_envelope(Envelope(uri=parse_resource_uri(uri), kind=kind, data=SECRET))


def fetch(
    server: KbsServer, *, url: str = "", roots: str = "", limits: AttestLimits = QUICK
) -> bytes:
    with Guest(server, url=url, roots=roots, limits=limits) as client:
        return client.get_envelope(URI, EnvelopeKind.FILE).envelope.data


@dataclass(kw_only=True)
class WatchedServer(KbsServer):
    """A KBS of one test, which is told why the guest refuses it."""

    seen: FaultSeen


def refused_reason(server: KbsServer, tamper: Tamper) -> str:
    """Why a guest of the tampered server gets nothing, where one of the untampered does."""
    assert fetch(server) == SECRET
    tamper(server.kbs)
    with pytest.raises(CcinitError) as refused:
        fetch(server)
    assert SECRET.decode() not in str(refused.value)
    if isinstance(server, WatchedServer):
        server.seen.guest(refused.value.reason)
    return refused.value.reason


def at(place: int, fault: Fault) -> Tamper:
    """The fault at `auth` (0), `attest` (1) or the resource (2)."""
    return lambda kbs: kbs.faults.extend((*[None] * place, fault))


PLACES = pytest.mark.parametrize("place", [0, 1, 2], ids=["auth", "attest", "resource"])
