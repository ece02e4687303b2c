"""A running owner plane (`owner_plane_program`) with its authority, and clients of every role."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccinit.formats.owner_rpc import Role, Stream
from ccinit.formats.owner_wire import LogLine, LogLineReader
from guest_owner.plane.authority import OwnerAuthority, create_authority
from guest_owner.plane.client import Endpoint, OwnerClient, Streams
from rootfs_builder.tools_tree import ToolsTree
from tests.vm.harness.site_packages import open_site_packages

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("CCINIT_TOOLS", ROOT / "build" / "tools")).resolve()
POD = "shop"
YES, NO = True, False  # parameters by position, as on the wire


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

    def endpoint(self, identity: Path | Role, *, pod: str = POD) -> Endpoint:
        path = self.folder / f"{identity}.pem" if isinstance(identity, Role) else identity
        return Endpoint(
            host="127.0.0.1",
            port=self.owner_port,
            pod=pod,
            roots=self.folder / "owner-ca.pem",
            identity=path,
        )

    def client(self, role: Role = Role.EXEC) -> OwnerClient:
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
    for role in Role:
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
        *("-m", "tests.integration.owner_plane_program", TOOLS, ROOT, site.resolve()),
        make_settings(folder, authority),
    )
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
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
    reader, found = LogLineReader(), []
    streams = Streams(sinks={Stream.OUTPUT: lambda data: found.extend(reader.feed(data))})
    client.stream(method, *params, 0, NO, streams=streams, seconds=30)
    return found


def texts(lines: list[LogLine]) -> list[str]:
    return [line.data.decode() for line in lines]
