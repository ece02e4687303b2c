"""The owner plane's place in the guest: from when until when connections are taken."""

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ccinit.agent.guest import Teardown
from ccinit.agent.host_service import HostService
from ccinit.agent.planes import owner_plane
from ccinit.agent.planes.owner_plane import MAX_STRANGERS, OwnerPlane, open_owner_plane
from ccinit.agent.state import BootState
from ccinit.errors import ChildError
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.planes.host_rpc import METHODS, RpcError
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.rpc.dispatch import Refusal
from ccinit.seal.ring import SealedRing
from ccinit.secret import Secret

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.agent.phases.attestation import Attested
    from ccinit.agent.phases.configuration import Configured

RELAY = METHODS["relay"]
CONFIG = OwnerConfig(port=0, client_ca_pem="")  # no port: connections come by `relay` alone


class Children:
    """Holds every connection until it is cancelled."""

    def __init__(self) -> None:
        self.begun = 0

    async def run(self, *_job: object, **_options: object) -> None:
        self.begun += 1
        await Event().wait()
        raise ChildError("child.ended", "not reached")


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> "Guest":
    monkeypatch.setattr(
        owner_plane, "parse_tls_identity", lambda _: SimpleNamespace(certificate_der=b"")
    )
    return cast(
        "Guest",
        SimpleNamespace(
            loop=EventLoop(),
            teardown=Teardown(),
            children=Children(),
            service=HostService(BootState(), bytes(16), SealedRing(1 << 20)),
            event=lambda _: None,
        ),
    )


def open_plane(guest: "Guest") -> OwnerPlane:
    manifest = SimpleNamespace(name="shop")
    grant = SimpleNamespace(secret=Secret(b"identity"))
    grants = {tls_identity_uri(manifest): grant}  # type: ignore[arg-type]
    configured = cast("Configured", SimpleNamespace(manifest=manifest))
    attested = cast("Attested", SimpleNamespace(grants=grants))
    open_owner_plane(guest, configured, attested, CONFIG)
    return cast("OwnerPlane", guest.service.owner)


def connect() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(1)
    return ours, theirs


def test_relayed_connections_are_taken_until_the_plane_is_full(guest: "Guest") -> None:
    async def main() -> int:
        plane = open_plane(guest)
        await sleep(0)
        peers = []
        for _ in range(MAX_STRANGERS + 1):
            ours, theirs = connect()
            peers.append(ours)
            guest.service.take_over(theirs)
        await sleep(0.01)
        assert plane.is_full
        with pytest.raises(Refusal) as refusal:
            await guest.service.call(RELAY, ())
        assert refusal.value.error is RpcError.BUSY
        assert peers[-1].recv(1) == b""  # closed: there was no room for it
        assert await guest.teardown.run() == ()
        for peer in peers:
            assert peer.recv(1) == b""
            peer.close()
        return cast("Children", guest.children).begun

    assert guest.loop.run(main()) == MAX_STRANGERS


def test_host_that_relays_while_the_guest_ends_is_refused_and_ends_nothing_else(
    guest: "Guest",
) -> None:
    async def main() -> None:
        open_plane(guest)
        await sleep(0)
        await guest.teardown.run()
        with pytest.raises(Refusal) as refusal:
            await guest.service.call(RELAY, ())
        assert refusal.value.error is RpcError.DENIED
        ours, theirs = connect()
        guest.service.take_over(theirs)  # of a call that was answered before
        with ours:
            assert ours.recv(1) == b""

    guest.loop.run(main())
