"""Clients of the owner plane that should not be let in, and hostile ones that were (R80 to R83).

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.agent.planes.call_pace import CALLS_A_SECOND, CALLS_AT_ONCE
from ccinit.errors import ConfigError, DeadlineError, PeerError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import (
    MAX_ARGUMENTS,
    MAX_PATH_BYTES,
    METHODS,
    WINDOW_BYTES,
    ClientRole,
    Value,
)
from ccinit.formats.planes.owner_wire import Data, Refused, Reply, encode_data, encode_request
from ccinit.formats.planes.tls_hello import group_name
from guest_owner.plane.client import OwnerClient
from guest_owner.plane.open_call import OpenCall, Streams
from host_runtime.plane.rpc_client import CallRefusedError as HostRefusedError
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.network.tls_server import DAY
from tests.integration.owner_plane.world import (
    ROLE_URI,
    SECONDS,
    TOOLS,
    OwnerWorld,
    host,
    identity,
    opened_world,
    read_lines,
    require_event,
    run,
)

PYTHON = "/usr/bin/python3.13"
LONGEST = MAX_ARGUMENTS * (MAX_PATH_BYTES + 3) + 2 * WINDOW_BYTES
"""What may wait: arguments, each behind three bytes of MessagePack, and two windows of data."""

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnerWorld]:
    """One guest for all tests of this file."""
    with opened_world(tmp_path_factory.mktemp("owner")) as made:
        yield made


def test_client_as_it_should_be_is_let_in(world: OwnerWorld) -> None:
    with OwnerClient.connect(world.endpoint(identity(world, "good"))) as client:
        client.call("metrics", seconds=SECONDS)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("foreign", {"foreign": True}, "net.certificate:"),
        ("expired", {"age": 9 * DAY, "life": DAY}, "net.certificate_time"),
        ("future", {"age": -DAY}, "net.certificate_early"),
        ("server", {"usage": ExtendedKeyUsageOID.SERVER_AUTH}, "net.certificate_purpose"),
        ("no-role", {"uris": ("urn:other",)}, "owner.role"),
        ("no-name", {"uris": ()}, "owner.role"),
        ("two-roles", {"uris": (ROLE_URI, "urn:ccinit:role:admin")}, "owner.role"),
        ("unknown-role", {"uris": ("urn:ccinit:role:root",)}, "owner.role"),
    ],
)
def test_client_with_another_certificate_is_not(
    world: OwnerWorld, name: str, changes: dict[str, Any], reason: str
) -> None:
    path = identity(world, name, **changes)
    with pytest.raises(PeerError), OwnerClient.connect(world.endpoint(path)) as client:
        client.call("metrics", seconds=SECONDS)
    require_event(world, f"owner: nobody: connection ended: {reason}")


def test_call_that_no_request_can_hold_is_refused_before_it_is_sent(world: OwnerWorld) -> None:
    with world.client(ClientRole.EXEC) as client:
        for name, params in (("attach", ("web\udcff",)), ("signal", ("web", 1 << 64))):
            with pytest.raises(ConfigError) as caught:
                client.call(name, *params, seconds=SECONDS)
            assert caught.value.reason == "owner.params"
        client.call("metrics", seconds=SECONDS)


def test_guest_that_has_no_answer_yet_is_waited_for_no_longer_than_was_said(
    world: OwnerWorld,
) -> None:
    with world.client(ClientRole.EXEC) as client, pytest.raises(DeadlineError) as caught:
        client.stream("logs", "web", 1 << 40, True, streams=Streams(), seconds=0.5)  # noqa: FBT003
    assert (caught.value.reason, caught.value.detail) == ("owner.silent", "no answer within 0.5 s")


def test_client_without_a_certificate_is_not(world: OwnerWorld) -> None:
    context = ssl.create_default_context(cafile=world.folder / "owner-ca.pem")
    with (
        socket.create_connection(("127.0.0.1", world.owner_port), 30) as connection,
        context.wrap_socket(connection, server_hostname="shop") as secured,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        secured.recv(1)


def test_tls_of_yesterday_is_refused(world: OwnerWorld) -> None:
    context = ssl.create_default_context(cafile=world.folder / "owner-ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", world.owner_port), 30) as connection,
        pytest.raises(ssl.SSLError, match="protocol version"),
    ):
        context.wrap_socket(connection, server_hostname="shop")


def test_owner_refuses_a_guest_of_another_pod(world: OwnerWorld) -> None:
    with pytest.raises(PeerError) as caught:
        OwnerClient.connect(world.endpoint(ClientRole.EXEC, pod="other"))
    assert caught.value.reason == "owner.certificate"


def test_key_exchange_is_the_newest_of_both_sides(world: OwnerWorld) -> None:
    """Python 3.13 of the tools tree has OpenSSL 3.5, as the guest; ours may be older."""
    with world.client(ClientRole.LOGS) as client:
        ours = group_name(client.group)
    assert ours == ("X25519MLKEM768" if ssl.OPENSSL_VERSION_INFO >= (3, 5) else "x25519")
    path = identity(world, "post-quantum")
    code = (
        "import socket, ssl, sys\n"
        "ca, client, port = sys.argv[1:]\n"
        "context = ssl.create_default_context(cafile=ca)\n"
        "context.load_cert_chain(client)\n"
        "with socket.create_connection(('127.0.0.1', int(port)), 30) as connection:\n"
        "    with context.wrap_socket(connection, server_hostname='shop') as secured:\n"
        f"        secured.sendall({encode_request(1, 'metrics', ())!r})\n"
        "        secured.recv(1)\n"
    )
    ToolsTree(TOOLS).run(
        (
            "python3.13",
            "-I",
            "-c",
            code,
            world.folder / "owner-ca.pem",
            path,
            str(world.owner_port),
        ),
        directories=(world.folder,),
    )
    require_event(world, "owner: post-quantum (exec) by X25519MLKEM768")


# Hostile clients (R80 to R83)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("http", b"GET / HTTP/1.1\r\n\r\n", "owner.message"),
        ("never-used", b"\xc1", "owner.message"),
        ("map", b"\x80", "owner.message"),
        ("reply", b"\x94\x01\x01\xc0\x90", "owner.message"),
        ("float", msgpack.packb([0, 1, "metrics", [1.5]]), "owner.message"),
        (
            "huge-bin",
            b"\x93\x02\xa4data\x93\x01\x00\xc6\xff\xff\xff\xff" + bytes(LONGEST + 1),
            f"owner.message: more than {LONGEST} bytes waiting",
        ),
        ("deep", msgpack.packb([0, 1, "logs", [[[[[]]]]]]), "owner.message"),
        ("flood", bytes(1 << 20), "owner.message"),
        ("two-of-one-id", encode_request(1, "events", (0, True)) * 2, "owner.msgid"),
        (
            "no-credit",
            encode_request(1, "exec", ("web", ("/usr/bin/sleep", "9"), False, 0, 0))
            + encode_data(Data(id=1, fd=0, content=bytes(WINDOW_BYTES))) * 3,
            "owner.credit",
        ),
        (
            "wrong-stream",
            encode_request(1, "events", (0, True)) + encode_data(Data(id=1, fd=0, content=b"x")),
            "owner.stream",
        ),
    ],
)
def test_r80_r82_client_that_breaks_the_protocol_loses_its_connection_alone(
    world: OwnerWorld, name: str, data: bytes, reason: str
) -> None:
    path = identity(world, f"hostile-{name}")
    with (
        world.client(ClientRole.LOGS) as bystander,
        OwnerClient.connect(world.endpoint(path)) as client,
    ):
        with pytest.raises(PeerError) as caught:  # noqa: PT012 - it may show in either
            client._send(data)
            while True:
                client._read()
        assert caught.value.reason in {"owner.closed", "owner.tls"}
        bystander.call("metrics", seconds=SECONDS)
    require_event(world, f"owner: hostile-{name} (exec): connection ended: {reason}")


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("rotate_everything", (), "owner.method"),
        ("stop", (10,), "owner.method"),
        ("metrics", (1,), "owner.params"),
        ("attest", (bytes(33),), "owner.params"),
        ("signal", ("web", 0), "owner.signal"),
        ("signal", ("web", 65), "owner.signal"),
    ],
)
def test_r83_unknown_method_and_wrong_parameters_leave_the_connection(
    world: OwnerWorld, method: str, params: tuple[Value, ...], reason: str
) -> None:
    known = METHODS.get(method, METHODS["metrics"])
    with world.client() as client:
        client._msgid += 1
        client._send(encode_request(client._msgid, method, params))
        call = OpenCall(client._msgid, known, Streams())
        while call.outcome is None:
            client._receive(call)
        assert isinstance(call.outcome, Refused)
        assert (call.outcome.code, call.outcome.reason) == (RpcError.BADREQ, reason)
        client.call("metrics", seconds=SECONDS)


def test_r81_strangers_neither_stay_nor_push_out_who_is_known(world: OwnerWorld) -> None:
    """Half a handshake or half a message, then silence: for ten seconds. The known go on."""
    address = ("127.0.0.1", world.owner_port)
    with world.client() as known, world.client() as half:
        for client in (known, half):
            client.call("metrics", seconds=SECONDS)  # until then it may be a stranger itself
        half._send(encode_request(2, "metrics", ())[:-1])
        began = time.monotonic()
        strangers = [socket.create_connection(address, 30) for _ in range(6)]
        strangers[0].send(b"\x16\x03\x01")
        turned_away = [stranger for stranger in strangers[2:] if stranger.recv(1) == b""]
        assert len(turned_away) == 4
        assert select.select(strangers[:2], (), (), 0) == ([], [], [])  # these may stay for now
        known.call("metrics", seconds=SECONDS)
        assert [stranger.recv(1) for stranger in strangers[:2]] == [b"", b""]
        with pytest.raises(PeerError):
            half._read()
        assert time.monotonic() - began > 8
        for stranger in strangers:
            stranger.close()
        known.call("metrics", seconds=SECONDS)
    require_event(world, "owner: nobody: connection ended: owner.handshake")
    require_event(world, "connection ended: owner.message: 10 s")


def test_container_that_takes_every_place_of_strangers_keeps_no_owner_out(
    world: OwnerWorld,
) -> None:
    """From here a connection by TCP is one of the pod's own; the owner comes by `relay`."""
    with world.client() as known:
        known.call("metrics", seconds=SECONDS)
        strangers = [socket.create_connection(("127.0.0.1", world.owner_port)) for _ in range(3)]
        assert strangers[2].recv(1) == b""  # so the other two are taken
        with (
            host(world) as relaying,
            OwnerClient(relaying.relay(), world.endpoint(ClientRole.LOGS)) as owner,
        ):
            owner.call("metrics", seconds=SECONDS)
        for stranger in strangers:
            stranger.close()
    wait_for_place(world)


def test_clients_of_a_lesser_role_leave_places_to_those_who_may_do_more(
    world: OwnerWorld,
) -> None:
    """Even while the pod's containers have their two handshakes going on."""
    wait_for_place(world)
    with ExitStack() as held:
        for role in (*[ClientRole.LOGS] * 6, ClientRole.EXEC):
            held.enter_context(world.client(role)).call("metrics", seconds=SECONDS)
        for role in (ClientRole.LOGS, ClientRole.EXEC):
            with pytest.raises(PeerError, match=r"^owner\.closed"), world.client(role) as client:
                client.call("metrics", seconds=SECONDS)
        strangers = [socket.create_connection(("127.0.0.1", world.owner_port)) for _ in range(3)]
        assert strangers[2].recv(1) == b""  # so the other two are taken
        relaying = held.enter_context(host(world))
        with OwnerClient(relaying.relay(), world.endpoint(ClientRole.ADMIN)) as admin:
            admin.call("metrics", seconds=SECONDS)
            with host(world) as full, pytest.raises(HostRefusedError) as caught:
                full.relay()
            assert caught.value.error is RpcError.BUSY
        for stranger in strangers:
            stranger.close()
    wait_for_place(world)
    require_event(world, "owner: a logs client (logs): connection ended: owner.places")


def wait_for_place(world: OwnerWorld) -> None:
    """Wait until the guest has noticed that both strangers are gone."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with world.client() as one, world.client() as other:
                for client in (one, other):
                    client.call("metrics", seconds=SECONDS)
        except PeerError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def test_client_that_calls_without_pause_is_answered_at_a_pace(world: OwnerWorld) -> None:
    """All of it, but PID 1 has time for others, and the sealed log no record for each moment."""
    late = 30
    with world.client(ClientRole.LOGS) as client:
        began = time.monotonic()
        calls = range(CALLS_AT_ONCE + late)
        client._send(b"".join(encode_request(msgid, "metrics", ()) for msgid in calls))
        answered: list[int] = []
        while len(answered) < len(calls):
            for data in client._read():
                replies = client._reader.feed(data)
                answered += [reply.msgid for reply in replies if isinstance(reply, Reply)]
        assert answered == list(calls)
        assert time.monotonic() - began > (late - 5) / CALLS_A_SECOND


def test_client_that_stands_still_holds_up_nobody(world: OwnerWorld) -> None:
    """Its program fills its own pipe; PID 1, the logs and another exec go on."""
    code = "import os\nwhile True: os.write(1, bytes(65536))"
    with world.client() as still, world.client() as other:
        params = ("web", (PYTHON, "-I", "-c", code), False, 0, 0)
        still._send(encode_request(1, "exec", params))
        for _ in range(5):
            assert run(other, "/usr/bin/true")[0] == (0, 0)
            read_lines(other, "logs", "web")
        ticks = len(read_lines(other, "logs", "db"))
        deadline = time.monotonic() + SECONDS
        while len(read_lines(other, "logs", "db")) == ticks:
            assert time.monotonic() < deadline
        (text,) = other.call("metrics", seconds=SECONDS)
        assert isinstance(text, bytes)
        (pss,) = (line for line in text.decode().splitlines() if line.startswith("ccinit_pid1"))
        assert float(pss.split()[1]) < 40e6
