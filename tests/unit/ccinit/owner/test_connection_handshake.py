"""The handshake of one client's connection: whose it is, and how long it may take."""

import pytest

from ccinit.errors import DeadlineError, PeerError
from ccinit.formats.planes.owner_rpc import ClientRole
from ccinit.owner import connection as module
from ccinit.owner.messages import Greeting
from tests.unit.ccinit.owner.connection_world import World


def test_client_is_who_its_certificate_says(world: World) -> None:
    greeting = world.connection().do_handshake()
    assert greeting == Greeting(role=ClientRole.EXEC, subject="ops", group=0x11EC)


@pytest.mark.parametrize(
    "uris",
    [
        pytest.param((), id="none"),
        pytest.param(("urn:ccinit:role:",), id="empty"),
        pytest.param(("urn:ccinit:role:root",), id="unknown"),
        pytest.param(("urn:ccinit:role:exec:admin",), id="more"),
        pytest.param(("urn:ccinit:role:logs", "urn:ccinit:role:admin"), id="two"),
        pytest.param(("urn:ccinit:role:admin", "urn:ccinit:role:admin"), id="twice"),
        pytest.param(("https://owner.example/admin",), id="another"),
    ],
)
def test_certificate_that_names_no_role_or_several_is_refused(
    world: World, uris: tuple[str, ...]
) -> None:
    world.tls.uris = uris
    with pytest.raises(PeerError) as refused:
        world.connection().do_handshake()
    assert refused.value.reason == "owner.role"
    world.tls.uris = ("https://owner.example/x", "urn:ccinit:role:admin")
    assert world.connection().do_handshake().role is ClientRole.ADMIN


def test_handshake_that_does_not_go_on_is_given_up(world: World) -> None:
    world.tls.shakes = False
    world.limits["handshake_seconds"] = 0.02
    with pytest.raises(DeadlineError) as passed:
        world.connection().do_handshake()
    assert passed.value.reason == "owner.handshake"


def test_handshake_that_goes_on_slowly_is_given_up_in_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that always has one byte more gets no longer than one that says nothing."""
    now = 1000.0

    def drip() -> bool:
        nonlocal now
        now += 4
        world.client.send(b"!")
        if now > 1010:
            world.client.close()  # nothing is left to wait for
        return False

    monkeypatch.setattr(module, "boottime", lambda: now)
    monkeypatch.setattr(world.tls, "do_handshake", drip)
    with pytest.raises(DeadlineError) as passed:
        world.connection().do_handshake()
    assert passed.value.reason == "owner.handshake"
    assert now == 1012


def test_handshake_goes_on_as_the_client_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def feed(data: bytes) -> None:
        assert data == b"!"
        world.tls.shakes = True

    monkeypatch.setattr(world.tls, "feed", feed)
    world.tls.shakes = False
    world.tls.write(b"our flight")
    world.client.send(b"!")
    assert world.connection().do_handshake().subject == "ops"
    assert world.client.recv(64) == b"our flight"


def test_last_flight_of_the_handshake_is_sent_when_it_is_over(world: World) -> None:
    world.tls.write(b"our last flight")
    world.connection().do_handshake()
    assert world.client.recv(64) == b"our last flight"


def test_flight_is_sent_before_the_clients_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    def feed(_data: bytes) -> None:
        sent.append(world.client.recv(64))
        world.tls.shakes = True

    monkeypatch.setattr(world.tls, "feed", feed)
    world.tls.shakes = False
    world.tls.write(b"our flight")
    world.client.send(b"!")
    world.connection().do_handshake()
    assert sent == [b"our flight"]


@pytest.mark.parametrize("is_gone", [False, True])
def test_client_that_is_refused_is_sent_the_alert_if_it_is_there_and_the_log_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    def refuse() -> bool:
        world.tls.write(b"alert")
        raise PeerError("net.certificate", "no certificate")

    monkeypatch.setattr(world.tls, "do_handshake", refuse)
    if is_gone:
        world.client.close()
    with pytest.raises(PeerError) as refused:
        world.connection().do_handshake()
    assert refused.value.reason == "net.certificate"
    assert is_gone or world.client.recv(64) == b"alert"
