"""The owner plane's place in the guest: from when until when connections are taken."""

import socket
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.host_service import HostService
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.planes import identity_renewal, owner_plane
from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_plane import MAX_STRANGERS, OwnerPlane, open_owner_plane
from ccinit.agent.state import BootState
from ccinit.agent.teardown import OWNER_PLANE_STEP, Teardown
from ccinit.errors import ChildError, PeerError
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.tls_identity import VerifiedIdentity
from ccinit.formats.planes.host_rpc import METHODS, RpcError
from ccinit.formats.planes.owner_rpc import ClientRole
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.kernel.event_loop import Event, EventLoop, readable, sleep
from ccinit.owner.messages import Greeting
from ccinit.rpc.dispatch import Refusal
from ccinit.seal.ring import SealedRing
from ccinit.secret import Secret

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest
    from ccinit.agent.phases.configuration import Configured
    from ccinit.formats.kbs.resource_uri import KbsUri

RELAY = METHODS["relay"]
CONFIG = OwnerConfig(port=0, client_ca_pem="")  # no port: connections come by `relay` alone


class Children:
    """Holds every connection until it is cancelled; `given` are the identities they began with."""

    def __init__(self) -> None:
        self.begun = 0
        self.given: list[bytes] = []

    async def run(self, *_job: object, secrets: Mapping[str, Secret], **_options: object) -> None:
        self.begun += 1
        self.given.append(secrets["identity"].reveal())
        await Event().wait()
        raise ChildError("child.ended", "not reached")


@pytest.fixture
def guest() -> "Guest":
    return cast(
        "Guest",
        SimpleNamespace(
            loop=EventLoop(),
            teardown=Teardown(),
            children=Children(),
            service=HostService(BootState(), bytes(16), SealedRing(1 << 20)),
            event=lambda *_: None,
            clock_doubted=Event(),
        ),
    )


def make_identity(name: bytes, found: VerifiedIdentity | None = None) -> Grant:
    return Grant(
        secret=Secret(name), create=False, identity=found, certificate_der=b"of the %s" % name
    )


def open_plane(guest: "Guest", found: VerifiedIdentity | None = None) -> OwnerPlane:
    manifest = SimpleNamespace(name="shop")
    grants: dict[KbsUri, Grant] = {
        tls_identity_uri(cast("Any", manifest)): make_identity(b"first", found)
    }
    configured = cast("Configured", SimpleNamespace(manifest=manifest))
    open_owner_plane(guest, configured, Attested(grants=grants), CONFIG)
    return cast("OwnerPlane", guest.service.owner)


def connect() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(1)
    return ours, theirs


def see_connection_end(guest: "Guest") -> None:
    """Open the plane, connect to it, wait until the connection is ended, and close the plane."""

    async def main() -> None:
        plane = open_plane(guest)
        await sleep(0)
        ours, theirs = connect()
        plane.take(theirs)
        with ours:
            await readable(ours.fileno())
            assert ours.recv(1) == b""
        await guest.teardown.run()

    guest.loop.run(main())


@pytest.mark.parametrize(("is_known", "source"), [(False, "owner"), (True, "ccinit")])
def test_end_of_a_connection_is_the_guests_own_event_only_if_its_client_is_known(
    guest: "Guest",
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,  # noqa: FBT001
    source: str,
) -> None:
    """Anybody who reaches the port can have a handshake fail as often as they like."""
    sealed: list[tuple[str, str]] = []

    def event(text: str, source: str = "ccinit") -> None:
        sealed.append((text, source))

    async def fail(*_job: object, notices: Mapping[type, Any], **_options: object) -> None:
        if is_known:
            notices[Greeting](Greeting(role=ClientRole.LOGS, subject="alice", group=29))
        raise PeerError("net.tls", "owner plane: …")

    monkeypatch.setattr(guest, "event", event)
    monkeypatch.setattr(guest.children, "run", fail)

    see_connection_end(guest)
    name = "alice (logs)" if is_known else "nobody"
    end = f"owner: {name}: connection ended: net.tls: owner plane: …"
    assert sealed[-1] == (end, source)


def test_child_that_never_tells_who_the_client_is_does_not_keep_its_place(
    guest: "Guest", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a deadline of its own, but reads what strangers send, so PID 1 has one, too."""
    told: list[str] = []
    monkeypatch.setattr(owner_plane, "GREETING_SECONDS", 0.01)
    monkeypatch.setattr(guest, "event", lambda text, *_: told.append(text))
    see_connection_end(guest)
    assert told[-1].startswith("owner: nobody: connection ended: owner.handshake")


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


@pytest.mark.parametrize(
    ("role", "places"), [(ClientRole.LOGS, 6), (ClientRole.EXEC, 7), (ClientRole.ADMIN, 8)], ids=str
)
def test_last_places_are_for_higher_roles(
    guest: "Guest", monkeypatch: pytest.MonkeyPatch, role: ClientRole, places: int
) -> None:
    told: list[str] = []

    async def greet(*_job: object, notices: Mapping[type, Any], **_options: object) -> None:
        notices[Greeting](Greeting(role=role, subject="alice", group=29))
        await Event().wait()

    monkeypatch.setattr(guest, "event", lambda text, *_: told.append(text))
    monkeypatch.setattr(guest.children, "run", greet)

    async def main() -> bool:
        plane = open_plane(guest)
        await sleep(0)
        peers = []
        for _ in range(places + 1):
            ours, theirs = connect()
            peers.append(ours)
            plane.take(theirs)
            await sleep(0.001)
        assert peers[-1].recv(1) == b""
        is_full = plane.is_full
        assert await guest.teardown.run() == ()
        for peer in peers:
            peer.close()
        return is_full

    assert guest.loop.run(main()) is (role is ClientRole.ADMIN)
    ends = [text for text in told if "connection ended: owner.places" in text]
    assert len(ends) == (role is not ClientRole.ADMIN)  # an admin's is closed unread


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


def test_connection_keeps_the_identity_that_it_began_with(
    guest: "Guest", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key, and the certificate that `attest` binds to evidence for it."""
    callers: list[Caller] = []

    def make_caller(event: Callable[[str], None], certificate_der: bytes) -> Caller:
        callers.append(Caller(event, certificate_der))
        return callers[-1]

    monkeypatch.setattr(owner_plane, "Caller", make_caller)

    async def main() -> None:
        plane = open_plane(guest)
        await sleep(0)
        peers = []
        for successor in (b"second", b"third"):
            ours, theirs = connect()
            peers.append(ours)
            guest.service.take_over(theirs)
            await sleep(0.01)
            plane.show(make_identity(successor))
        await guest.teardown.run()
        for peer in peers:
            peer.close()

    guest.loop.run(main())
    assert cast("Children", guest.children).given == [b"first", b"second"]
    assert [one.certificate_der for one in callers] == [b"of the first", b"of the second"]


def test_open_guest_asks_for_no_successor_and_goes_on_taking_connections(
    guest: "Guest", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way down to the owner plane, which debug takes, ends the renewal."""
    asked = 0

    async def fetch(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise PeerError("kbs.policy_deny", "no")

    monkeypatch.setattr(identity_renewal, "fetch_grants", fetch)
    monkeypatch.setattr(identity_renewal, "want_identity", lambda *_: None)
    monkeypatch.setattr(identity_renewal, "seconds_to_renewal", lambda *_: 0.001)

    async def main() -> None:
        open_plane(guest, VerifiedIdentity(top_der=b"", not_before=0, not_after=1))
        while not asked:
            await sleep(0.001)
        assert await guest.teardown.run(above=OWNER_PLANE_STEP) == ()
        before = asked
        await sleep(0.02)
        assert asked == before
        ours, theirs = connect()
        with ours:
            guest.service.take_over(theirs)
            await sleep(0.01)
            assert cast("Children", guest.children).given == [b"first"]
            await guest.teardown.run()

    guest.loop.run(main())


@pytest.mark.parametrize(
    ("reason", "is_doubted"),
    [
        ("net.certificate_early", True),
        ("net.identity_expired", True),
        ("net.certificate_time", False),
        ("net.tls", False),
    ],
)
def test_handshake_that_fails_as_by_a_late_clock_makes_the_clock_doubted(
    guest: "Guest",
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
    is_doubted: bool,  # noqa: FBT001
) -> None:
    async def refuse(*_job: object, **_options: object) -> None:
        raise PeerError(reason, "owner plane: …")

    monkeypatch.setattr(guest.children, "run", refuse)

    see_connection_end(guest)
    assert guest.clock_doubted.is_set() is is_doubted
