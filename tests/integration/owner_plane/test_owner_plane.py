"""The owner plane for real: TLS on loopback, PID 1's loop, the child's sandbox, crun's containers.

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import (
    DEBUG_CONTAINER,
    METHODS,
    WINDOW_BYTES,
    ClientRole,
    Stream,
    Value,
)
from ccinit.formats.planes.owner_wire import encode_request
from ccinit.formats.sealed_log import Kind
from guest_owner.plane.client import OwnerClient
from guest_owner.plane.open_call import Streams
from tests.integration.owner_plane.world import (
    GOOD_PARAMS,
    SECONDS,
    YES,
    OwnerWorld,
    host,
    opened_world,
    printed,
    read_lines,
    refusal,
    run,
    texts,
)

PYTHON = "/usr/bin/python3.13"

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnerWorld]:
    """One guest for all tests of this file."""
    with opened_world(tmp_path_factory.mktemp("owner")) as made:
        yield made


# What calls do


def test_logs_are_of_the_container_that_was_asked_for(world: OwnerWorld) -> None:
    with world.client(ClientRole.LOGS) as client:
        lines = read_lines(client, "logs", "db")
        assert {line.source for line in lines} == {"db"}
        assert "ready\n" in printed(lines)
        assert {line.source for line in read_lines(client, "logs", "")} >= {"db", "web"}


def test_logs_follow_as_more_comes(world: OwnerWorld) -> None:
    class EnoughError(Exception):
        pass

    found = bytearray()

    def take(data: bytes) -> None:
        found.extend(data)
        if found.count(b"tick") > 20:
            raise EnoughError

    with world.client(ClientRole.LOGS) as client, pytest.raises(EnoughError):
        client.stream(
            "logs", "web", 0, YES, streams=Streams(sinks={Stream.OUTPUT: take}), seconds=SECONDS
        )


def test_events_name_the_caller_and_what_it_asked(world: OwnerWorld) -> None:
    with world.client(ClientRole.LOGS) as client:
        lines = read_lines(client, "events")
    assert {line.kind for line in lines} <= {Kind.EVENT, Kind.CODE}
    assert "owner: a logs client (logs): events " in texts(lines)


def test_metrics_are_text_with_every_container(world: OwnerWorld) -> None:
    with world.client(ClientRole.LOGS) as client:
        (text,) = client.call("metrics", seconds=SECONDS)
    assert isinstance(text, bytes)
    lines = text.decode().splitlines()
    assert 'ccinit_container_state{container="web",state="running"} 1' in lines
    assert 'ccinit_container_starts_total{container="db"} 1' in lines
    (pss,) = (line for line in lines if line.startswith("ccinit_pid1_pss_bytes "))
    assert 5e6 < float(pss.split()[1]) < 40e6


def test_attest_asks_the_platform_and_says_what_it_lacks(world: OwnerWorld) -> None:
    """There is no TPM here: the whole of it is shown in a guest."""
    with world.client(ClientRole.LOGS) as client:
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
    with world.client(ClientRole.LOGS) as client, pytest.raises(EnoughError):
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
        "changes = {signal.SIGWINCH}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, changes)\n"  # one that comes early waits
        "def wait_for_another(size):\n"
        "    while (now := os.get_terminal_size(1)) == size: signal.sigwait(changes)\n"
        "    return now\n"
        "first = wait_for_another((0, 0))\n"  # crun sets it while the program starts already
        "print(os.isatty(1), *first, flush=True)\n"
        "print(*wait_for_another(first), flush=True)\n"
    )
    out = bytearray()
    resized: list[bool] = []

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


def test_terminal_is_resized_before_a_window_of_input_that_nobody_reads(world: OwnerWorld) -> None:
    code = (
        "import os, time, tty\n"
        "tty.setraw(0)\n"
        "print('raw', flush=True)\n"
        "time.sleep(1)\n"
        f"left = {WINDOW_BYTES}\n"
        "while left:\n"
        "    left -= len(os.read(0, left))\n"
        "print(*os.get_terminal_size(1), flush=True)\n"
    )
    out = bytearray()
    typed, keyboard = os.pipe()
    unread = [b"x" * WINDOW_BYTES]

    def resize() -> tuple[tuple[int, bytes], ...]:
        if b"\n" not in out or not unread:
            return ()
        os.write(keyboard, unread.pop())
        return ((Stream.RESIZE, b"\x00\x20\x00\x64"),)

    streams = Streams(sinks={Stream.OUTPUT: out.extend}, source=typed, events=resize)
    with world.client() as client:
        args = (PYTHON, "-I", "-c", code)
        status = client.stream("exec", "web", args, YES, 24, 80, streams=streams, seconds=SECONDS)
    os.close(typed)
    os.close(keyboard)
    assert status == (0, 0)
    assert out.decode().split() == ["raw", "100", "32"]


def test_exec_dies_with_its_connection(world: OwnerWorld) -> None:
    mark = "4242.4242"
    client = world.client()
    client._send(encode_request(1, "exec", ("web", ("/usr/bin/sleep", mark), False, 0, 0)))
    wait_for_sleepers(world, mark, 1)
    client.close()
    wait_for_sleepers(world, mark, 0)


def wait_for_sleepers(world: OwnerWorld, mark: str, count: int) -> None:
    """Wait until so many processes in `web` have that argument."""
    code = (
        "import os\n"
        "count = 0\n"
        "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
        "    if int(pid) != os.getpid():\n"
        "        try:\n"
        f"            count += {mark!r} in open(f'/proc/{{pid}}/cmdline').read()\n"
        "        except OSError:\n"
        "            pass\n"  # it has ended since it was listed
        "print(count)\n"
    )
    deadline = time.monotonic() + SECONDS
    with world.client() as client:
        while int(run(client, PYTHON, "-I", "-c", code)[1]) != count:
            assert time.monotonic() < deadline
            time.sleep(0.02)


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
        while "signalled\n" not in printed(read_lines(client, "logs", "web")):
            assert time.monotonic() < deadline


# Who may


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", ClientRole)
def test_role_decides_and_the_reason_says_so(
    world: OwnerWorld, method: str, role: ClientRole
) -> None:
    """Every method, every role: the right ones pass this check, the others nothing else."""
    allowed = role.includes(METHODS[method].role)
    with world.client(role) as client:
        if allowed and method == "attach":  # it would go on until the container ends
            client._send(encode_request(1, method, GOOD_PARAMS[method]))
        elif allowed and method == "attest":  # as far as it gets without a TPM
            assert refusal(client, method, *GOOD_PARAMS[method])[1] == "kernel.open"
        elif allowed and method == "rotate":  # nor has it a secret that may rotate
            found = refusal(client, method, *GOOD_PARAMS[method])
            assert found == (RpcError.FAILED, "rotate.none")
        elif allowed and method == "open_debug":  # this guest declares no tools
            found = refusal(client, method, *GOOD_PARAMS[method])
            assert found == (RpcError.DENIED, "debug.tools")
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
    with world.client(ClientRole.ADMIN) as client:
        assert refusal(client, method, *params) == (RpcError.DENIED, "owner.allow")


@pytest.mark.parametrize("method", ["logs", "attach", "exec", "copy", "signal"])
def test_container_that_is_not_in_the_manifest_does_not_exist(
    world: OwnerWorld, method: str
) -> None:
    params = ("no-such", *GOOD_PARAMS[method][1:])
    with world.client() as client:
        assert refusal(client, method, *params) == (RpcError.BADREQ, "owner.container")


def test_debug_environment_is_for_admins_and_only_while_it_is_open(world: OwnerWorld) -> None:
    params = (DEBUG_CONTAINER, ("/bin/sh",), False, 0, 0)
    with world.client(ClientRole.EXEC) as client:
        assert refusal(client, "exec", *params) == (RpcError.DENIED, "owner.role")
    with world.client(ClientRole.ADMIN) as client:
        assert refusal(client, "exec", *params) == (RpcError.NOT_NOW, "owner.debug")


# The host's relay


def test_relay_leads_to_the_same_plane(world: OwnerWorld) -> None:
    with host(world) as relaying:
        connection = relaying.relay()
    connection.settimeout(30)
    with OwnerClient(connection, world.endpoint(ClientRole.EXEC)) as client:
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

    thread = threading.Thread(target=tamper, daemon=True)
    thread.start()
    near.settimeout(30)
    with pytest.raises(CcinitError) as caught:
        OwnerClient(near, world.endpoint(ClientRole.EXEC))
    near.close()
    thread.join()
    assert caught.value.reason in {"owner.tls", "owner.certificate"}
