"""A running owner plane (`program`) with its authority, and clients of every role."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import ClientRole, Stream, Value
from ccinit.formats.planes.owner_wire import LogLine, LogLineReader
from ccinit.formats.sealed_log import Kind
from guest_owner.plane.authority import OwnerAuthority, create_authority
from guest_owner.plane.client import CallRefusedError, Endpoint, OwnerClient
from guest_owner.plane.open_call import Streams
from host_runtime.plane.rpc_client import CallRefusedError as HostRefusedError
from host_runtime.plane.rpc_client import GuestClient
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.network.tls_server import Authority, make_authority
from tests.integration.leftovers import awaited
from tests.vm.harness.site_packages import open_site_packages

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(os.environ.get("CCINIT_TOOLS", ROOT / "build" / "tools")).resolve()
POD = "shop"
SECONDS = 30.0
YES, NO = True, False  # parameters by position, as on the wire


GOOD_PARAMS: dict[str, tuple[Value, ...]] = {
    "attest": (bytes(32),),
    "logs": ("web", 0, False),
    "events": (0, False),
    "metrics": (),
    "attach": ("web",),
    "exec": ("web", ("/usr/bin/true",), False, 0, 0),
    "copy": ("web", "/etc/hostname", False, 0),
    "signal": ("web", 10),
    "rotate": (),
    "open_debug": (),
}
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
ROLE_URI = "urn:ccinit:role:exec"


@dataclass(slots=True)
class OwnerWorld:
    """The guest's ports, and what the owner has.

    Attributes:
        host_port: of the host plane.
        owner_port: of the owner plane; 0 before it is open.
        report: what PID 1 said at its end.
    """

    folder: Path
    authority: OwnerAuthority
    process: "subprocess.Popen[str]"
    host_port: int = 0
    owner_port: int = 0
    report: dict[str, Any] = field(default_factory=dict)

    def endpoint(self, identity: Path | ClientRole, *, pod: str = POD) -> Endpoint:
        path = self.folder / f"{identity}.pem" if isinstance(identity, ClientRole) else identity
        return Endpoint(
            host="127.0.0.1",
            port=self.owner_port,
            pod=pod,
            roots=self.folder / "owner-ca.pem",
            identity=path,
        )

    def client(self, role: ClientRole = ClientRole.EXEC) -> OwnerClient:
        return OwnerClient.connect(self.endpoint(role))

    def step(self) -> dict[str, Any]:
        """Let the program go on, and return what it says next."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said


def make_settings(folder: Path, authority: OwnerAuthority) -> Path:
    for role in ClientRole:
        (folder / f"{role}.pem").write_bytes(authority.issue_client(f"a {role} client", role, 3))
    settings = folder / "settings.json"
    identity = authority.issue_guest(POD, 3).decode()
    settings.write_text(json.dumps({"identity": identity, "client_ca": authority.pem.decode()}))
    return settings


@contextmanager
def running_world(folder: Path) -> Iterator[OwnerWorld]:
    """Start the program; its end is orderly, and its report is taken."""
    authority = create_authority(folder)
    site = open_site_packages(ToolsTree(TOOLS), ROOT / "build" / "cache" / "vm")
    command = (
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable),
        *("-m", "tests.integration.owner_plane.program", TOOLS, ROOT, site.resolve()),
        make_settings(folder, authority),
    )
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with awaited(process):
        world = OwnerWorld(folder, authority, process)
        try:
            world.host_port = world.hear()["host"]
            yield world
        finally:
            rest, _ = process.communicate(timeout=60)
            world.report = json.loads(rest.splitlines()[-1]) if rest else {}
    assert process.returncode == 0


def read_lines(client: OwnerClient, method: str, *params: Any) -> list[LogLine]:
    """Return what `logs` or `events` has now."""
    reader = LogLineReader()
    found: list[LogLine] = []
    streams = Streams(sinks={Stream.OUTPUT: lambda data: found.extend(reader.feed(data))})
    client.stream(method, *params, 0, NO, streams=streams, seconds=30)
    return found


def texts(lines: list[LogLine]) -> list[str]:
    return [line.data.decode() for line in lines]


def printed(lines: list[LogLine]) -> str:
    """Return a container's standard output whole: an entry is what one read found, not a line."""
    return "".join(texts([line for line in lines if line.kind is Kind.STDOUT]))


@contextmanager
def opened_world(folder: Path) -> Iterator[OwnerWorld]:
    """Go through a guest's life; before its owner plane is open, the host finds none."""
    with running_world(folder) as made:
        with pytest.raises(HostRefusedError) as caught, host(made) as client:
            client.relay()
        assert caught.value.error is RpcError.NOT_NOW
        made.owner_port = made.step()["owner"]
        with made.client(ClientRole.ADMIN) as owner:
            assert refusal(owner, "exec", *GOOD_PARAMS["exec"])[1] == "owner.not_now"
        assert made.step() == {"running": ["db", "web"]}
        wait_until_ready(made)
        yield made
    assert made.report["ssl"] is False  # PID 1 has never loaded it
    assert made.report["owned"] == []
    assert made.report["fds"] == 0
    assert made.report["failures"] == []
    assert len(made.report["ended"]) < 10  # of hundreds; the program itself holds one of them


def wait_until_ready(world: OwnerWorld) -> None:
    """Wait for the first line of each container: one that runs has not printed it yet."""
    deadline = time.monotonic() + SECONDS
    with world.client(ClientRole.LOGS) as client:
        for name in ("db", "web"):
            while "ready\n" not in printed(read_lines(client, "logs", name)):
                assert time.monotonic() < deadline, name
                time.sleep(0.02)


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


def identity(world: OwnerWorld, name: str, *, foreign: bool = False, **changes: Any) -> Path:
    """Make a client's key and certificate with one thing changed, or nothing."""
    ours = world.authority
    authority = Authority(key=ours.key, certificate=ours.certificate)
    if foreign:
        authority = make_authority()
    given: dict[str, Any] = {"uris": (ROLE_URI,), "usage": CLIENT} | changes
    key, certificate = authority.issue((), subject=name, **given)
    path = world.folder / f"client-{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


def require_event(world: OwnerWorld, text: str) -> None:
    """Wait until the guest has logged it."""
    deadline = time.monotonic() + SECONDS
    with world.client(ClientRole.LOGS) as client:
        while not any(text in event for event in texts(read_lines(client, "events"))):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
