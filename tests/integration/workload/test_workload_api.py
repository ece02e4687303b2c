"""The workload API for real: crun's containers, the kernel's word for who asks, the owner's KBS.

Needs root, `unshare` and the tools tree (CCINIT_TOOLS, by default build/tools).
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ccinit.agent.planes.workload_plane import MAX_CONNECTIONS_EACH
from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.planes.workload_api import report_data
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.platforms.tpm_device import SimulatedTpm, serving
from tests.integration.free_ports import free_ports
from tests.integration.kbs.harness import DOCUMENT, SECRET, Kbs, booted_tpm, make_state, running_kbs
from tests.integration.leftovers import awaited
from tests.integration.owner_plane.world import ROOT, TOOLS
from tests.vm.harness.site_packages import open_site_packages

SECRETS = {"web": "kbs:///ccinit/shop/web-key", "db": "kbs:///ccinit/shop/db-key"}
HEAD = " HTTP/1.1\r\nHost: localhost\r\n"

pytestmark = pytest.mark.usefixtures("as_root")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Of the API; a status of 0 is a connection that was closed without a word."""

    status: int
    headers: str
    body: bytes


@dataclass(kw_only=True)
class World:
    """A guest with two containers, its KBS and its TPM.

    Attributes:
        report: what PID 1 said at its end.
    """

    kbs: Kbs
    tpm: SimulatedTpm
    ports: dict[str, int]
    api: int
    report: dict[str, Any] = field(default_factory=dict)

    def ask(self, container: str, target: str, method: str = "GET", body: bytes = b"") -> Reply:
        head = f"{method} {target}{HEAD}Content-Length: {len(body)}\r\n"
        return self.send(self.ports[container], head.encode() + b"\r\n" + body)

    def send(self, port: int, data: bytes) -> Reply:
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(data)
            if port != self.api:
                connection.shutdown(socket.SHUT_WR)  # to the relay, which does not pass it on
            reply = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, rest = reply.partition(b"\r\n\r\n")
        line, _, headers = head.decode().partition("\r\n")
        status = int(line.split(" ")[1]) if line.startswith("HTTP/1.1 ") else 0
        return Reply(status=status, headers=headers, body=rest)


@contextmanager
def running(world: World, settings: Path) -> Iterator[None]:
    site = open_site_packages(ToolsTree(TOOLS), ROOT / "build" / "cache" / "vm")
    command = (
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable),
        *("-m", "tests.integration.workload.program", TOOLS, ROOT, site.resolve(), settings),
    )
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with awaited(process):
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"running": ["db", "web"]}
            for port in world.ports.values():
                wait_for(port)
            yield
        finally:
            rest, _ = process.communicate(timeout=60)
            world.report = json.loads(rest.splitlines()[-1]) if rest else {}
    assert process.returncode == 0


def wait_for(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on {port}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made_world(tmp_path_factory.mktemp("workload"), share=False) as made:
        yield made


@contextmanager
def made_world(folder: Path, *, share: bool) -> Iterator[World]:
    """Args: share: whether the containers share their process and IPC namespaces."""
    state = make_state(folder)
    tpm = SimulatedTpm(tpm=booted_tpm())
    with (
        running_kbs(state) as kbs,
        socket.create_server(("127.0.0.1", 0)) as listener,
        serving(tpm, listener),
    ):
        web, db, api = free_ports(3)
        made = World(kbs=kbs, tpm=tpm, ports={"web": web, "db": db}, api=api)
        settings = folder / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "api": api,
                    "share": share,
                    "ports": made.ports,
                    "tpm": listener.getsockname()[1],
                    "secrets": SECRETS,
                    "kbs_url": kbs.url,
                    "kbs_ca": (state / "ca.pem").read_text(),
                    "document": DOCUMENT.decode(),
                }
            )
        )
        with running(made, settings):
            yield made
    assert made.report["ssl"] is False  # PID 1 has never loaded it
    assert made.report["owned"] == []
    assert made.report["fds"] == 0
    assert made.report["failures"] == []


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_nobody_can_take_the_port_where_a_client_may_look_for_the_api(
    world: World, address: str
) -> None:
    """Whatever `localhost` is to a client, and whatever is asked of the kernel for the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with socket.socket(family, socket.SOCK_STREAM) as other:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
            if family == socket.AF_INET6:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            with pytest.raises(OSError, match="Address already in use"):
                other.bind((address, world.api))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", world.api))


# Resources


@pytest.mark.parametrize("name", SECRETS)
def test_container_gets_what_the_manifest_gives_it(world: World, name: str) -> None:
    reply = world.ask(name, f"/cdh/resource/ccinit/shop/{name}-key")
    assert (reply.status, reply.body) == (200, f"for {name}".encode())
    assert "Content-Type: application/octet-stream" in reply.headers


def test_container_gets_neither_anothers_resource_nor_one_that_nobody_has(world: World) -> None:
    foreign = world.ask("db", "/cdh/resource/ccinit/shop/web-key")
    absent = world.ask("db", "/cdh/resource/ccinit/shop/none")
    assert (foreign.status, foreign.body) == (403, b"workload.resource\n")
    assert foreign == absent


# Who is calling


@pytest.mark.parametrize("share", [False, True])
def test_caller_is_who_it_is_whoever_shares_its_processes(tmp_path: Path, *, share: bool) -> None:
    with made_world(tmp_path, share=share) as world:
        for asker in SECRETS:
            for owner in SECRETS:
                for who in ("child", "orphan"):  # whose parent is the first process
                    line = f"GET /cdh/resource/ccinit/shop/{owner}-key{HEAD}Who: {who}\r\n\r\n"
                    reply = world.send(world.ports[asker], line.encode())
                    assert reply.status == (200 if asker == owner else 403), (asker, owner, who)


def test_caller_outside_of_every_container_is_forbidden(world: World) -> None:
    reply = world.send(world.api, f"GET /info{HEAD}\r\n".encode())
    assert (reply.status, reply.body) == (403, b"")
    assert world.ask("db", "/info").status == 200


@pytest.mark.parametrize(
    ("target", "method", "body"),
    [
        ("/aa/evidence?runtime_data=abc", "GET", b""),
        ("/aa/token?token_type=kbs", "GET", b""),
        ("/aa/aael", "POST", b'{"domain":"app","operation":"seen","content":"it"}'),
    ],
)
def test_evidence_token_and_event_log_are_for_those_that_the_manifest_names(
    world: World, target: str, method: str, body: bytes
) -> None:
    refused = world.ask("db", target, method, body)
    assert (refused.status, refused.body) == (403, b"workload.allow\n")
    assert world.ask("web", target, method, body).status == 200


# What is given


def test_token_is_one_that_the_kbs_made_now_and_comes_without_a_key(world: World) -> None:
    before = len(world.kbs.audit())
    reply = world.ask("web", "/aa/token?token_type=kbs")
    assert reply.status == 200
    found = json.loads(reply.body)
    assert found.keys() == {"token"}
    assert found["token"].count(".") == 2
    assert [record["event"] for record in world.kbs.audit()[before:]] == ["attest"]
    bearer = world.kbs.client().get(token=found["token"])
    assert bearer.status_code == 200  # encrypted to a key that is gone
    assert SECRET not in bearer.content


def test_info_says_what_this_container_may(world: World) -> None:
    web, db = (json.loads(world.ask(name, "/info").body) for name in ("web", "db"))
    assert web["tee"] == db["tee"] == "tpm"
    assert (web["feature"], db["feature"]) == ("all", "resource")


def test_evidence_for_a_containers_session_is_refused_by_the_kbs(world: World) -> None:
    """A container cannot attest as the guest: its evidence is never for the bytes it gave."""
    client = world.kbs.client(world.tpm.tpm)
    assert client.auth().status_code == 200
    data = client.report_data()
    asked = f"/aa/evidence?runtime_data={encode_base64url(data)}&encoding=base64"
    reply = world.ask("web", asked)
    assert reply.status == 200

    refused = client.attest(evidence=json.loads(reply.body))
    assert refused.status_code == 401
    record = world.kbs.audit()[-1]
    claims: Any = record["claims"]
    assert (record["event"], record["decision"]) == ("attest", "refused")
    assert str(record["reason"]).startswith("quote.report_data: ")
    (wrong,) = [claim for claim in claims if not claim["holds"]]
    assert wrong["name"] == "quote.report_data"
    assert (wrong["expected"], wrong["got"]) == (data.hex(), report_data("web", data).hex())

    # the same machine's evidence for the same session, made for the guest itself
    assert client.auth().status_code == 200
    assert client.attest().status_code == 200


# Bad requests, from a container


@pytest.mark.parametrize(
    ("status", "reason", "data"),
    [
        (404, "workload.path", f"GET /aa/nothing{HEAD}\r\n"),
        (405, "workload.method", f"POST /info{HEAD}\r\n"),
        (400, "workload.resource", f"GET /cdh/resource/a/../b{HEAD}\r\n"),
        (400, "workload.token_type", f"GET /aa/token?token_type=coco_as{HEAD}\r\n"),
        (400, "http.characters", "\x16\x03\x01\r\n\r\n"),
        (400, "http.host", "GET /info HTTP/1.1\r\n\r\n"),
        (431, "http.head", "GET /" + "a" * 20000),
        (411, "http.length", f"POST /aa/aael{HEAD}Transfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_bad_request_is_told_why(world: World, status: int, reason: str, data: str) -> None:
    reply = world.send(world.ports["web"], data.encode())
    assert reply.status == status
    assert reply.body.decode().startswith(reason)
    assert world.ask("web", "/info").status == 200


def test_container_that_stands_still_takes_its_own_connections_only(world: World) -> None:
    statuses: list[int] = []

    def stand_still() -> None:
        statuses.append(world.send(world.ports["web"], b"GET").status)

    slow = [threading.Thread(target=stand_still) for _ in range(MAX_CONNECTIONS_EACH + 3)]
    for thread in slow:
        thread.start()
    try:
        assert eventually(lambda: statuses == [503] * 3)  # the others hold what there is
        assert world.ask("web", "/info").status == 503
        assert world.ask("db", "/info").status == 200
    finally:
        for thread in slow:
            thread.join(30)
    assert sorted(statuses) == [0] * MAX_CONNECTIONS_EACH + [503] * 3
    assert eventually(lambda: world.ask("web", "/info").status == 200)


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(90):
        if holds():
            return True
        time.sleep(0.1)
    return False
