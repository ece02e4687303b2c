"""The owner plane for real: TLS on loopback, PID 1's loop, the child's sandbox, crun's containers.

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.errors import CcinitError, PeerError
from ccinit.formats.host_rpc import RpcError
from ccinit.formats.owner_rpc import METHODS, WINDOW_BYTES, Role, Stream, Value
from ccinit.formats.owner_wire import Data, Refused, encode_data, encode_request
from ccinit.formats.sealed_log import Kind
from ccinit.formats.tls_hello import group_name
from guest_owner.plane.client import CallRefusedError, OwnerClient, Streams, _Talk
from host_runtime.rpc_client import CallRefusedError as HostRefusedError
from host_runtime.rpc_client import GuestClient
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.tls_server import DAY, Authority, make_authority
from tests.integration.owner_world import (
    NO,
    TOOLS,
    YES,
    OwnerWorld,
    read_lines,
    running_world,
    texts,
)

PYTHON = "/usr/bin/python3.13"
SECONDS = 30.0
GOOD_PARAMS: dict[str, tuple[Value, ...]] = {
    "attest": (bytes(32),),
    "logs": ("web", 0, False),
    "events": (0, False),
    "metrics": (),
    "attach": ("web",),
    "exec": ("web", ("/usr/bin/true",), False, 0, 0),
    "copy": ("web", "/etc/hostname", False, 0),
    "signal": ("web", 10),
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnerWorld]:
    """One guest for all tests of this file; before it is opened, the host finds no plane."""
    with running_world(tmp_path_factory.mktemp("owner")) as made:
        with pytest.raises(HostRefusedError) as caught, host(made) as client:
            client.relay()
        assert caught.value.error is RpcError.NOT_NOW
        made.owner_port = made.step()["owner"]
        with made.client() as owner, pytest.raises(CallRefusedError) as early:
            owner.stream("exec", *GOOD_PARAMS["exec"], streams=Streams(), seconds=SECONDS)
        assert early.value.reason == "owner.not_now"
        assert made.step() == {"running": ["db", "web"]}
        yield made
    assert made.report["ssl"] is False  # PID 1 has never loaded it
    assert made.report["owned"] == []
    assert made.report["fds"] == 0
    assert made.report["failures"] == []


def host(world: OwnerWorld) -> GuestClient:
    return GuestClient(lambda: socket.create_connection(("127.0.0.1", world.host_port), 10))


def run(
    client: OwnerClient, *args: str, source: int | None = None
) -> tuple[tuple[Value, ...], bytes, bytes]:
    """Run a program in `web`; return its status and what it wrote."""
    out, err = bytearray(), bytearray()
    streams = Streams(sinks={Stream.OUTPUT: out.extend, Stream.ERROR: err.extend}, source=source)
    status = client.stream("exec", "web", args, NO, 0, 0, streams=streams, seconds=SECONDS)
    return status, bytes(out), bytes(err)


def refusal(client: OwnerClient, method: str, *params: Value) -> tuple[RpcError, str]:
    with pytest.raises(CallRefusedError) as caught:
        client.stream(method, *params, streams=Streams(), seconds=SECONDS)
    return caught.value.code, caught.value.reason


# What calls do


def test_logs_are_of_the_container_that_was_asked_for(world: OwnerWorld) -> None:
    with world.client(Role.LOGS) as client:
        lines = read_lines(client, "logs", "db")
        assert {line.source for line in lines} == {"db"}
        assert "ready\n" in texts(lines)
        assert {line.source for line in read_lines(client, "logs", "")} >= {"db", "web"}


def test_logs_follow_as_more_comes(world: OwnerWorld) -> None:
    class EnoughError(Exception):
        pass

    found = bytearray()

    def take(data: bytes) -> None:
        found.extend(data)
        if found.count(b"tick") > 20:
            raise EnoughError

    with world.client(Role.LOGS) as client, pytest.raises(EnoughError):
        client.stream(
            "logs", "web", 0, YES, streams=Streams(sinks={Stream.OUTPUT: take}), seconds=SECONDS
        )


def test_events_name_the_caller_and_what_it_asked(world: OwnerWorld) -> None:
    with world.client(Role.LOGS) as client:
        lines = read_lines(client, "events")
    assert {line.kind for line in lines} <= {Kind.EVENT, Kind.CODE}
    assert "owner: a logs client (logs): events " in texts(lines)


def test_metrics_are_text_with_every_container(world: OwnerWorld) -> None:
    with world.client(Role.LOGS) as client:
        (text,) = client.call("metrics", seconds=SECONDS)
    assert isinstance(text, bytes)
    lines = text.decode().splitlines()
    assert 'ccinit_container_state{container="web",state="running"} 1' in lines
    assert 'ccinit_container_starts_total{container="db"} 1' in lines
    (pss,) = (line for line in lines if line.startswith("ccinit_pid1_pss_bytes "))
    assert 5e6 < float(pss.split()[1]) < 40e6


def test_attest_asks_the_platform_and_says_what_it_lacks(world: OwnerWorld) -> None:
    """There is no TPM here: the whole of it is shown in a guest."""
    with world.client(Role.LOGS) as client:
        assert refusal(client, "attest", bytes(32)) == (RpcError.FAILED, "kernel.open")


def test_attach_has_both_streams_from_now_on(world: OwnerWorld) -> None:
    class EnoughError(Exception):
        pass

    seen: dict[int, bytes] = {1: b"", 2: b""}

    def take(fd: int, data: bytes) -> None:
        seen[fd] += data
        if all(b"tick" in text for text in seen.values()):
            raise EnoughError

    sinks = {fd: (lambda data, fd=fd: take(fd, data)) for fd in seen}
    with world.client(Role.LOGS) as client, pytest.raises(EnoughError):
        client.stream("attach", "db", streams=Streams(sinks=sinks), seconds=SECONDS)
    assert b"ready" not in seen[1]


def test_exec_has_streams_and_a_status(world: OwnerWorld, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.stdout.write(sys.stdin.read()[::-1]); sys.stderr.write('e'); sys.exit(7)"
    )
    (tmp_path / "in").write_bytes(b"x" * 300_000 + b"y")
    with world.client() as client, (tmp_path / "in").open("rb") as file:
        status, out, err = run(client, PYTHON, "-I", "-c", code, source=file.fileno())
    assert status == (7, 0)
    assert out == b"y" + b"x" * 300_000
    assert err == b"e"


def test_exec_ends_with_the_signal_that_ended_it(world: OwnerWorld) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with world.client() as client:
        assert run(client, PYTHON, "-I", "-c", code)[0] == (0, 9)


def test_exec_has_the_containers_rights_and_no_more(world: OwnerWorld) -> None:
    code = (
        "import os, socket\n"
        "print(os.getuid(), [l.split()[1] for l in open('/proc/self/status') if 'CapEff' in l])\n"
        "print(sorted(os.listdir('/proc/self/fd'))[:3])\n"
        "try: socket.socket(40, 1)\n"
        "except OSError as error: print(error.errno)\n"
    )
    with world.client() as client:
        _, out, _ = run(client, PYTHON, "-I", "-c", code)
    assert out.decode().splitlines() == ["1000 ['0000000000000000']", "['0', '1', '2']", "97"]


def test_exec_of_a_program_that_is_not_there_is_refused_by_its_reason(world: OwnerWorld) -> None:
    with world.client() as client:
        params = ("web", ("/no/such",), False, 0, 0)
        assert refusal(client, "exec", *params) == (RpcError.FAILED, "crun.exec")
        assert run(client, "/usr/bin/true")[0] == (0, 0)


def test_exec_on_a_terminal_is_resized_while_it_runs(world: OwnerWorld) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGWINCH, lambda *_: None)\n"
        "print(os.isatty(1), *os.get_terminal_size(1), flush=True)\n"
        "signal.pause()\n"
        "print(*os.get_terminal_size(1), flush=True)\n"
    )
    out = bytearray()
    resized = []

    def resize() -> tuple[tuple[int, bytes], ...]:
        if b"\n" not in out or resized:
            return ()
        resized.append(True)
        return ((Stream.RESIZE, b"\x00\x20\x00\x64"),)

    streams = Streams(sinks={Stream.OUTPUT: out.extend}, events=resize)
    with world.client() as client:
        args = (PYTHON, "-I", "-c", code)
        status = client.stream("exec", "web", args, YES, 24, 80, streams=streams, seconds=SECONDS)
    assert status == (0, 0)
    assert out.decode().split("\r\n") == ["True 80 24", "100 32", ""]


def test_exec_dies_with_its_connection(world: OwnerWorld) -> None:
    mark = "4242.4242"
    client = world.client()
    client._send(encode_request(1, "exec", ("web", ("/usr/bin/sleep", mark), False, 0, 0)))
    assert sleepers(world, mark) == 1
    client.close()
    deadline = time.monotonic() + SECONDS
    while sleepers(world, mark):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def sleepers(world: OwnerWorld, mark: str) -> int:
    """Count processes in `web` with that argument."""
    code = (
        "import os\n"
        "own = str(os.getpid())\n"
        "lines = [open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc')"
        " if p.isdigit() and p != own]\n"
        f"print(sum({mark!r} in line for line in lines))\n"
    )
    with world.client() as client:
        for _ in range(50):
            _, out, _ = run(client, PYTHON, "-I", "-c", code)
            if int(out):
                break
            time.sleep(0.02)
        return int(out)


def test_copy_goes_both_ways(world: OwnerWorld, tmp_path: Path) -> None:
    content = os.urandom(200_000)
    (tmp_path / "up").write_bytes(content)
    back = bytearray()
    with world.client() as client, (tmp_path / "up").open("rb") as file:
        into = ("web", "/dev/shm/file", True, 0o600)
        streams = Streams(source=file.fileno())
        assert client.stream("copy", *into, streams=streams, seconds=SECONDS) == (len(content),)
        _, out, _ = run(client, "/usr/bin/stat", "-c", "%u %a", "/dev/shm/file")
        streams = Streams(sinks={Stream.OUTPUT: back.extend})
        out_of = ("web", "/dev/shm/file", False, 0)
        assert client.stream("copy", *out_of, streams=streams, seconds=SECONDS) == (len(content),)
    assert out == b"1000 600\n"
    assert back == content


@pytest.mark.parametrize(
    ("path", "into", "reason"),
    [
        ("/none", False, "kernel.openat2"),
        ("/dev", False, "run.file"),
        ("/dev/null", False, "run.file"),
        ("/new", True, "kernel.openat2"),
        ("/proc/1/root/etc/hostname", False, "kernel.openat2"),
    ],
)
def test_copy_of_what_is_no_file_is_refused(
    world: OwnerWorld,
    path: str,
    into: bool,  # noqa: FBT001
    reason: str,
) -> None:
    with world.client() as client:
        assert refusal(client, "copy", "web", path, into, 0) == (RpcError.FAILED, reason)


def test_signal_reaches_the_containers_program(world: OwnerWorld) -> None:
    with world.client() as client:
        client.call("signal", "web", 10, seconds=SECONDS)
        deadline = time.monotonic() + SECONDS
        while "signalled\n" not in texts(read_lines(client, "logs", "web")):
            assert time.monotonic() < deadline


# Who may


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", Role)
def test_role_decides_and_the_reason_says_so(world: OwnerWorld, method: str, role: Role) -> None:
    """Every method, every role: the right ones pass this check, the others nothing else."""
    allowed = role.includes(METHODS[method].role)
    with world.client(role) as client:
        if allowed and method == "attach":  # it would go on until the container ends
            client._send(encode_request(1, method, GOOD_PARAMS[method]))
        elif allowed and method == "attest":  # as far as it gets without a TPM
            assert refusal(client, method, *GOOD_PARAMS[method])[1] == "kernel.open"
        elif allowed:
            client.stream(method, *GOOD_PARAMS[method], streams=Streams(), seconds=SECONDS)
        else:
            found = refusal(client, method, *GOOD_PARAMS[method])
            assert found == (RpcError.DENIED, "owner.role")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("exec", ("db", ("/usr/bin/true",), False, 0, 0)),
        ("copy", ("db", "/etc/hostname", False, 0)),
        ("signal", ("db", 10)),
    ],
)
def test_manifest_decides_which_container(
    world: OwnerWorld, method: str, params: tuple[Value, ...]
) -> None:
    with world.client(Role.ADMIN) as client:
        assert refusal(client, method, *params) == (RpcError.DENIED, "owner.allow")


@pytest.mark.parametrize("method", ["logs", "attach", "exec", "copy", "signal"])
def test_container_that_is_not_in_the_manifest_does_not_exist(
    world: OwnerWorld, method: str
) -> None:
    params = ("no-such", *GOOD_PARAMS[method][1:])
    with world.client() as client:
        assert refusal(client, method, *params) == (RpcError.BADREQ, "owner.container")


CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
ROLE_URI = "urn:ccinit:role:exec"


def identity(world: OwnerWorld, name: str, *, foreign: bool = False, **changes: Any) -> Path:
    """Make a client's key and certificate with one thing changed, or nothing."""
    ours = world.authority
    authority = Authority(key=ours.key, certificate=ours.certificate)
    if foreign:
        authority = make_authority()
    given = {"uris": (ROLE_URI,), "usage": CLIENT} | changes
    key, certificate = authority.issue((), subject=name, **given)
    path = world.folder / f"client-{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


def require_event(world: OwnerWorld, text: str) -> None:
    """Wait until the guest has logged it."""
    deadline = time.monotonic() + SECONDS
    with world.client(Role.LOGS) as client:
        while not any(text in event for event in texts(read_lines(client, "events"))):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)


def test_client_as_it_should_be_is_let_in(world: OwnerWorld) -> None:
    with OwnerClient.connect(world.endpoint(identity(world, "good"))) as client:
        client.call("metrics", seconds=SECONDS)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("foreign", {"foreign": True}, "net.certificate:"),
        ("expired", {"age": 9 * DAY, "life": DAY}, "net.certificate_time"),
        ("future", {"age": -DAY}, "net.certificate_time"),
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
        OwnerClient.connect(world.endpoint(Role.EXEC, pod="other"))
    assert caught.value.reason == "owner.certificate"


def test_key_exchange_is_the_newest_of_both_sides(world: OwnerWorld) -> None:
    """Python 3.13 of the tools tree has OpenSSL 3.5, as the guest; ours may be older."""
    with world.client(Role.LOGS) as client:
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
        ("huge-bin", b"\x93\x02\xa4data\x93\x01\x00\xc6\xff\xff\xff\xff", "owner.message"),
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
def test_client_that_breaks_the_protocol_loses_its_connection_alone(
    world: OwnerWorld, name: str, data: bytes, reason: str
) -> None:
    path = identity(world, f"hostile-{name}")
    with (
        world.client(Role.LOGS) as bystander,
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
def test_unknown_method_and_wrong_parameters_leave_the_connection(
    world: OwnerWorld, method: str, params: tuple[Value, ...], reason: str
) -> None:
    known = METHODS.get(method, METHODS["metrics"])
    with world.client() as client:
        client._msgid += 1
        client._send(encode_request(client._msgid, method, params))
        talk = _Talk(client._msgid, known, Streams())
        while talk.outcome is None:
            client._receive(talk)
        assert isinstance(talk.outcome, Refused)
        assert (talk.outcome.code, talk.outcome.reason) == (RpcError.BADREQ, reason)
        client.call("metrics", seconds=SECONDS)


def test_half_a_message_is_waited_for_ten_seconds(world: OwnerWorld) -> None:
    with world.client() as client:
        client._send(encode_request(1, "metrics", ())[:-1])
        began = time.monotonic()
        with pytest.raises(PeerError):
            client._read()
    assert 8 < time.monotonic() - began < 25
    require_event(world, "connection ended: owner.message: 10 s")


def test_strangers_neither_stay_nor_push_out_who_is_known(world: OwnerWorld) -> None:
    """R81: half a handshake, then silence; meanwhile the known go on."""
    address = ("127.0.0.1", world.owner_port)
    with world.client() as known:
        known.call("metrics", seconds=SECONDS)  # until then it may be a stranger itself
        strangers = [socket.create_connection(address, 30) for _ in range(6)]
        strangers[0].send(b"\x16\x03\x01")
        began = time.monotonic()
        turned_away = [stranger for stranger in strangers[2:] if stranger.recv(1) == b""]
        assert len(turned_away) == 4
        assert time.monotonic() - began < 5
        known.call("metrics", seconds=SECONDS)
        assert [stranger.recv(1) for stranger in strangers[:2]] == [b"", b""]
        assert 8 < time.monotonic() - began < 25
        for stranger in strangers:
            stranger.close()
        known.call("metrics", seconds=SECONDS)
    require_event(world, "owner: nobody: connection ended: owner.handshake")


def test_client_that_stands_still_holds_up_nobody(world: OwnerWorld) -> None:
    """Its program fills its own pipe; PID 1, the logs and another exec go on."""
    code = "import os\nwhile True: os.write(1, bytes(65536))"
    with world.client() as still, world.client() as other:
        params = ("web", (PYTHON, "-I", "-c", code), False, 0, 0)
        still._send(encode_request(1, "exec", params))
        began = time.monotonic()
        for _ in range(5):
            assert run(other, "/usr/bin/true")[0] == (0, 0)
            read_lines(other, "logs", "web")
        assert time.monotonic() - began < SECONDS
        ticks = len(read_lines(other, "logs", "db"))
        time.sleep(0.3)
        assert len(read_lines(other, "logs", "db")) > ticks
        (text,) = other.call("metrics", seconds=SECONDS)
        assert isinstance(text, bytes)
        (pss,) = (line for line in text.decode().splitlines() if line.startswith("ccinit_pid1"))
        assert float(pss.split()[1]) < 40e6


# The host's relay


def test_relay_leads_to_the_same_plane(world: OwnerWorld) -> None:
    with host(world) as relaying:
        connection = relaying.relay()
    connection.settimeout(30)
    with OwnerClient(connection, world.endpoint(Role.EXEC)) as client:
        assert run(client, "/usr/bin/true")[0] == (0, 0)


def test_relay_of_a_host_that_changes_a_byte_is_noticed(world: OwnerWorld) -> None:
    near, far = socket.socketpair()
    with host(world) as relaying:
        connection = relaying.relay()

    def tamper() -> None:
        with far, connection:
            near_bytes = far.recv(65536)
            connection.sendall(near_bytes)
            answer = bytearray(connection.recv(65536))
            answer[-1] ^= 1
            far.sendall(answer)
            far.recv(65536)  # its alert

    thread = threading.Thread(target=tamper)
    thread.start()
    near.settimeout(30)
    with pytest.raises(CcinitError) as caught:
        OwnerClient(near, world.endpoint(Role.EXEC))
    near.close()
    thread.join()
    assert caught.value.reason in {"owner.tls", "owner.certificate"}
