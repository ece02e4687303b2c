"""What each path of the KBS answers, by a whole service without sockets."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from guest_owner.commands.initdata import make_document
from guest_owner.kbs import exclusion
from guest_owner.kbs.administration.administrators import add_administrator
from guest_owner.kbs.administration.calls import Administration
from guest_owner.kbs.administration.token import sign_admin_token
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.http import app
from guest_owner.kbs.http.app import build_app
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.metrics import Metrics
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.service import Service
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, POD
from tests.unit.guest_owner.kbs.another_holder import held_by_another
from tests.unit.guest_owner.kbs.broker_values import (
    AUTH,
    COUNTER,
    NOW,
    PATH,
    SECRET,
    Guest,
    Kbs,
    resource,
    step,
)
from tests.unit.guest_owner.kbs.values import reference_set

ADMIN = Ed25519PrivateKey.from_private_bytes(bytes(32))
LIMITS = Limits(request_bytes=1000, admin_bytes=4000)
JSON, RESOURCE = "application/json", f"/kbs/v0/resource/{PATH}"
IMAGE = {"ccinit_reference": encode_reference_set(reference_set("image-2")).decode()}
PAYLOAD = b64encode(json.dumps(IMAGE).encode()).decode()
MESSAGE = json.dumps({"version": "0.1.0", "type": "sample", "payload": PAYLOAD}).encode()
ERRORS = "https://github.com/confidential-containers/kbs/errors/"
Headers = Mapping[str, str]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    is_body_read: bool

    @property
    def error(self) -> tuple[int, str]:
        """Status and name of a refusal."""
        assert self.headers["content-type"] == JSON
        said = json.loads(self.body)
        assert said.keys() == {"type", "detail"}
        return self.status, said["type"].removeprefix(ERRORS)


class Server:
    """The service over the state of `Kbs`, with one administrator."""

    def __init__(self, kbs: Kbs) -> None:
        public = ADMIN.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        add_administrator(kbs.store.root, "alice", public)
        token = sign_admin_token(ADMIN, now=NOW, life_seconds=600)
        self.kbs, self.metrics = kbs, Metrics()
        self.admin = {"authorization": f"Bearer {token}"}
        service = Service(
            state=kbs.store.root,
            broker=kbs.broker,
            administration=Administration(kbs.store, AuditLog(kbs.log), lambda: NOW),
            metrics=self.metrics,
            signer=kbs.signer,
        )
        self._app = build_app(service, LIMITS)

    async def answer(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Headers | None = None,
        **more: bytes,
    ) -> Reply:
        """Answer one request; `more` are members of its ASGI scope."""
        sent: list[Any] = []
        read = []

        async def receive() -> dict[str, Any]:
            read.append(True)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), text.encode()) for name, text in (headers or {}).items()],
            **more,
        }
        await self._app(scope, receive, send)
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(part.get("body", b"") for part in sent[1:])
        return Reply(sent[0]["status"], head, content, bool(read))

    def ask(self, *request: Any, **more: Any) -> Reply:
        return asyncio.run(self.answer(*request, **more))


@pytest.fixture
def server(store: Store) -> Server:
    Counters(store.root).begin(COUNTER)
    return Server(Kbs(store))


def cookie_of(guest: Guest) -> dict[str, str]:
    return {"cookie": f"kbs-session-id={guest.cookie}"}


def test_handshake_and_release_by_cookie_and_by_token(server: Server) -> None:
    opened = server.ask("POST", "/kbs/v0/auth", AUTH)
    assert (opened.status, opened.headers["content-type"]) == (200, JSON)
    value, expires, *attributes = opened.headers["set-cookie"].split("; ")
    assert value.startswith("kbs-session-id=")
    assert expires.startswith("Expires=")
    assert expires.endswith(" GMT")
    assert attributes == ["Path=/kbs/v0", "Secure", "HttpOnly"]

    guest = server.kbs.guest()
    attested = server.ask("POST", "/kbs/v0/attest", guest.evidence(), cookie_of(guest))
    assert (attested.status, attested.headers["content-type"]) == (200, JSON)
    assert attested.headers["set-cookie"].startswith(f"kbs-session-id={guest.cookie}; ")
    token = json.loads(attested.body)["token"]
    for shown in (cookie_of(guest), {"authorization": f"bearer {token}"}):
        released = server.ask("GET", RESOURCE, headers=shown)
        assert (released.status, released.headers["content-type"]) == (200, JSON)
        assert guest.open(released.body) == SECRET
        assert "set-cookie" not in released.headers


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic token", "Digest a b"])
def test_other_authorization_is_no_token(server: Server, authorization: str) -> None:
    reply = server.ask("GET", RESOURCE, headers={"authorization": authorization})
    assert reply.error == (401, "TokenNotFound")


@pytest.mark.parametrize(
    ("path", "kind", "found"),
    [
        ("/healthz", None, b""),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", b"# HELP "),
        ("/.well-known/jwks.json", JSON, b'{"keys": [{'),
    ],
)
def test_what_anybody_may_read(server: Server, path: str, kind: str | None, found: bytes) -> None:
    reply = server.ask("GET", path)
    assert (reply.status, reply.headers.get("content-type")) == (200, kind)
    assert reply.body.startswith(found)
    assert bool(reply.body) == bool(found)
    assert server.ask("POST", path).error == (404, "InvalidRequestPath")


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/", (404, "InvalidRequestPath")),
        ("GET", "/kbs/v0/", (404, "InvalidRequestPath")),
        ("GET", "/kbs/v1/auth", (404, "InvalidRequestPath")),
        ("GET", "/kbs/v0/auth", (404, "PluginNotFound")),
        ("GET", "/kbs/v0/pkcs11/key", (404, "PluginNotFound")),
        ("DELETE", "/kbs/v0/rollback-counter/shop/data", (404, "PluginNotFound")),
        ("GET", RESOURCE, (401, "TokenNotFound")),
        ("GET", "/kbs/v0/rollback-counter/shop/data", (401, "TokenNotFound")),
        ("POST", "/kbs/v0/rollback-counter/shop/data", (401, "TokenNotFound")),
        ("POST", RESOURCE, (401, "AdminAuthAccess")),
        ("DELETE", RESOURCE, (401, "AdminAuthAccess")),
        ("GET", "/kbs/v0/reference-value", (401, "AdminAuthAccess")),
        ("POST", "/kbs/v0/attestation-policy", (401, "AdminAuthAccess")),
    ],
)
def test_stranger_is_answered_as_trustee_answers(
    server: Server, method: str, path: str, error: tuple[int, str]
) -> None:
    assert server.ask(method, path).error == error


def test_counter_is_read_by_get_and_moved_by_post(server: Server) -> None:
    guest = server.kbs.guest()
    guest.attest()
    path, shown = "/kbs/v0/rollback-counter/shop/data", cookie_of(guest)
    read = server.ask("GET", path, headers=shown)
    assert (read.status, read.headers["content-type"]) == (200, JSON)
    assert (read.is_body_read, step(guest)) == (False, 0)
    assert server.ask("POST", path, b"{}", shown).error == (401, "PluginInternalError")
    body = b'{"v":1,"to":1,"holder":"AAAAAAAAAAAAAAAAAAAAAA"}'
    assert server.ask("POST", path, body, shown).status == 200
    assert step(guest) == 1


@pytest.mark.parametrize("sent", [b"/%66ile-password", b"/\xc3\xa4"])
def test_path_is_taken_as_it_was_sent(server: Server, sent: bytes) -> None:
    """No name of ours has an escape, so none means what it would mean decoded."""
    guest = server.kbs.guest()
    guest.attest()
    raw = RESOURCE.rpartition("/")[0].encode() + sent
    reply = server.ask("GET", RESOURCE, headers=cookie_of(guest), raw_path=raw)
    assert reply.error == (401, "PluginInternalError")
    assert server.kbs.last()["reason"].startswith("resource.path: ")


def test_query_counts_among_the_bytes_of_a_head(server: Server) -> None:
    room = LIMITS.head_bytes - len("/healthz")
    assert server.ask("GET", "/healthz", query_string=b"q" * room).status == 200
    too_long = server.ask("GET", "/healthz", query_string=b"q" * (room + 1))
    assert too_long.error == (431, "AttestationError")


@pytest.mark.parametrize("path", ["/kbs/v0/auth", "/kbs/v0/attest"])
def test_body_over_its_cap_is_refused(server: Server, path: str) -> None:
    limit = {"/kbs/v0/auth": LIMITS.request_bytes, "/kbs/v0/attest": LIMITS.attestation_bytes}
    assert server.ask("POST", path, b" " * limit[path]).status in {401, 408}
    assert server.ask("POST", path, b" " * (limit[path] + 1)).error == (413, "AttestationError")


def test_administrator_stores_lists_registers_and_removes(server: Server) -> None:
    stored = server.ask("POST", RESOURCE, b"new", server.admin)
    assert (stored.status, stored.body) == (200, b"")
    assert server.kbs.store.read_resource(resource(PATH)) == b"new"
    registered = server.ask("POST", "/kbs/v0/reference-value", MESSAGE, server.admin)
    assert (registered.status, registered.body) == (200, b"")
    listed = server.ask("GET", "/kbs/v0/reference-value", headers=server.admin)
    assert (listed.status, listed.headers["content-type"]) == (200, JSON)
    assert all(f"image-{number}" in listed.body.decode() for number in (1, 2))
    removed = server.ask("DELETE", RESOURCE, headers=server.admin)
    assert (removed.status, removed.body) == (200, b"")
    assert not server.kbs.store.has_resource(resource(PATH))
    assert server.ask("DELETE", RESOURCE, headers=server.admin).error[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", RESOURCE.replace("resource", "reference-value"), (401, "RvpsError")),
        ("POST", "/kbs/v0/reference-value", (401, "RvpsError")),
        ("POST", "/kbs/v0/resource-policy", (501, "PolicyEngineError")),
        ("GET", "/kbs/v0/attestation-policy", (501, "PolicyEngineError")),
        ("PUT", RESOURCE, (404, "InvalidRequestPath")),
        ("POST", "/kbs/v0/resource/a", (401, "PluginInternalError")),
    ],
)
def test_administrators_other_calls_are_refused_and_logged(
    server: Server, method: str, path: str, error: tuple[int, str]
) -> None:
    assert server.ask(method, path, b"{}", server.admin).error == error
    last = server.kbs.last()
    assert (last["event"], last["decision"]) == ("admin", "refused")
    assert (last["administrator"], last["request"]) == ("alice", f"{method} {path}")


@pytest.mark.parametrize("path", [RESOURCE, "/kbs/v0/reference-value"])
def test_body_of_an_administrator_is_capped_and_of_anybody_else_unread(
    server: Server, path: str
) -> None:
    large = b" " * (LIMITS.admin_bytes + 1)
    assert server.ask("POST", path, large, server.admin).status == 413
    (record,) = server.kbs.records()
    assert (record["decision"], record["administrator"]) == ("refused", "alice")
    stranger = server.ask("POST", path, large)
    assert (stranger.error, stranger.is_body_read) == ((401, "AdminAuthAccess"), False)


def test_broken_state_is_told_to_the_owner_by_other_ways_than_its_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    guest = server.kbs.guest()
    guest.attest()
    server.kbs.log.unlink()
    server.kbs.log.mkdir()
    for _ in range(2):
        reply = server.ask("GET", RESOURCE, headers=cookie_of(guest))
        assert reply.error == (500, "PluginInternalError")
        assert json.loads(reply.body)["detail"] == "internal error"
    assert caplog.text.count("audit.write: ") == 1
    assert 'reason="audit.write"} 2' in server.metrics.to_prometheus().decode()


CHANGES = {
    "stored": ("POST", RESOURCE, b"new"),
    "removed": ("DELETE", RESOURCE, b""),
    "registered": ("POST", "/kbs/v0/reference-value", MESSAGE),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_change_waits_for_a_backup_while_others_are_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str, bytes]
) -> None:
    monkeypatch.setattr(exclusion, "WAIT_SECONDS", 0.1)  # a wait that nobody else could use

    async def change_during_a_backup() -> Reply:
        with held_by_another(server.kbs.store.root):
            changing = asyncio.create_task(server.answer(*change, server.admin))
            await asyncio.sleep(0.02)
            assert (await server.answer("GET", "/healthz")).status == 200
            assert not changing.done()
        return await changing

    assert asyncio.run(change_during_a_backup()).status == 200


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_key_that_is_removed_while_its_change_waits_changes_nothing(
    server: Server, change: tuple[str, str, bytes]
) -> None:
    root = server.kbs.store.root
    key = root / "admin-keys/alice.pem"

    async def remove_during_a_backup() -> Reply:
        with held_by_another(root):
            changing = asyncio.create_task(server.answer(*change, server.admin))
            await asyncio.sleep(0.02)
            assert not changing.done()
            key.rename(root / "removed")
        return await changing

    assert asyncio.run(remove_during_a_backup()).error == (401, "AdminAuthAccess")
    (record,) = server.kbs.records()
    assert (record["event"], record["decision"]) == ("admin", "refused")
    assert record["reason"].startswith("admin.closed: ")
    (root / "removed").rename(key)
    assert server.ask(*change, server.admin).status == 200


def test_others_are_answered_between_two_documents_that_judge_a_body(server: Server) -> None:
    """A thousand documents may name one resource, and judging by them takes more than a second."""
    for name in ("old", "new"):
        server.kbs.store.add_initdata(name, make_document(CONFIG, POD))
    answered = []

    async def note(*request: Any) -> None:
        answered.append(((await server.answer(*request)).status, request[1]))

    async def store_beside_another() -> None:
        await asyncio.gather(note("POST", RESOURCE, b"new", server.admin), note("GET", "/healthz"))

    assert str(resource(PATH)) in POD
    asyncio.run(store_beside_another())
    assert answered == [(200, "/healthz"), (200, RESOURCE)]


def test_wait_for_a_backup_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = server.kbs.guest()
    guest.attest()
    monkeypatch.setattr(app, "WAIT_SECONDS", 0.1)
    counter = ("POST", "/kbs/v0/rollback-counter/shop/data", b"{}", cookie_of(guest))
    with held_by_another(server.kbs.store.root):
        for change in CHANGES.values():
            assert server.ask(*change, server.admin).error == (500, "PluginInternalError")
            assert server.kbs.last()["reason"].startswith("state.busy: ")
        assert server.ask(*counter).error == (500, "PluginInternalError")
        assert server.ask("GET", RESOURCE, headers=cookie_of(guest)).status == 200
    assert guest.get() == SECRET
