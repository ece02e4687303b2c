"""The KBS's HTTP surface: paths, cookies, error replies.

RCAR on the wire (Trustee KBS, API v0), on Starlette. `guest_owner.kbs.http.bodies` reads bodies;
`guest_owner.kbs.broker` makes the replies, for administrators
`guest_owner.kbs.administration.calls`; TLS and sockets are `guest_owner.kbs.http.server`.
"""

import asyncio
import logging
import time
from email.utils import format_datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.kbs import rollback_counter
from guest_owner.kbs.administration.calls import AdminCall
from guest_owner.kbs.exclusion import WAIT_SECONDS, busy, may_change
from guest_owner.kbs.http.bodies import Bodies
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.metrics import CONTENT_TYPE as METRICS_TYPE
from guest_owner.kbs.notices import Notices
from guest_owner.kbs.refusal import KbsRefusedError, Variant
from guest_owner.kbs.service import Service
from guest_owner.kbs.sessions import Session

COOKIE = "kbs-session-id"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ADMIN_PATHS = frozenset(("attestation-policy", "reference-value", "resource", "resource-policy"))
_JSON = "application/json"
_TURN_SECONDS = 0.05

_log = logging.getLogger(__name__)


class KbsEndpoint:
    """Routes one request to the part of the service that answers it."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._broker = service.broker
        self._limits = limits
        self._bodies = Bodies(limits)
        self._notices = Notices(_log.error)

    async def handle(self, request: Request) -> Response:
        """Answer any request; nothing but a lost connection escapes as an exception."""
        try:
            return await self._route(request)
        except KbsRefusedError as refusal:
            return Response(refusal.to_bytes(), refusal.status, media_type=_JSON)
        except CcinitError as error:
            # The owner's own state is broken (a file that does not parse, a full disk): refuse, and
            # tell the owner by another way than the audit log, which may be what is broken.
            self._service.metrics.count_error(error.reason)
            self._notices.tell(error.reason, str(error))
            broken = KbsRefusedError(Variant.PLUGIN_INTERNAL_ERROR, "internal error", status=500)
            return Response(broken.to_bytes(), broken.status, media_type=_JSON)

    async def _route(self, request: Request) -> Response:
        # The path as it was sent: none of ours contains percent-encoding.
        raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        path = raw.decode("ascii", errors="replace")
        # The library caps a head that arrives in pieces, but not one that arrives at once.
        head_bytes = len(raw) + len(request.scope["query_string"])
        head_bytes += sum(len(name) + len(value) for name, value in request.headers.raw)
        if head_bytes > self._limits.head_bytes:
            detail = f"head over {self._limits.head_bytes} bytes"
            raise KbsRefusedError(Variant.ATTESTATION_ERROR, detail, status=431)
        match (request.method, path.split("/")[1:]):
            case ("GET", ["healthz"]):
                return Response(b"")
            case ("GET", ["metrics"]):
                return Response(self._service.metrics.to_prometheus(), media_type=METRICS_TYPE)
            case ("GET", [".well-known", "jwks.json"]):
                return Response(self._service.signer.key_set(), media_type=_JSON)
            case ("POST", ["kbs", "v0", "auth"]):
                body = await self._bodies.read(request, self._limits.request_bytes)
                session, reply = self._broker.authenticate(body)
                return self._session_reply(session, reply)
            case ("POST", ["kbs", "v0", "attest"]):
                body = await self._bodies.read(request, self._limits.attestation_bytes)
                session, reply = self._broker.attest(_cookie(request), body)
                return self._session_reply(session, reply)
            case ("GET", ["kbs", "v0", "resource", *segments]):
                reply = self._broker.resource(
                    _cookie(request), _bearer(request), "/".join(segments)
                )
                return Response(reply, media_type=_JSON)
            case ("GET" | "POST", ["kbs", "v0", rollback_counter.PLUGIN, *segments]):
                advance = None
                if request.method == "POST":
                    limit = rollback_counter.MAX_MESSAGE_BYTES
                    advance = await self._bodies.read(request, limit)
                    await self._wait_for_turn()
                reply = self._broker.counter(
                    _cookie(request), _bearer(request), "/".join(segments), advance
                )
                return Response(reply, media_type=_JSON)
            case (_, ["kbs", "v0", name, *_]) if name in _ADMIN_PATHS:
                return await self._administer(request, path)
            case (_, ["kbs", "v0", name, *_]) if name:
                raise KbsRefusedError(Variant.PLUGIN_NOT_FOUND, "no such plugin")
        raise KbsRefusedError(Variant.INVALID_REQUEST_PATH, "no such path")

    async def _administer(self, request: Request, path: str) -> Response:
        """Answer an administrator; the body is not read before the token is verified."""
        call = self._admit(request, path)
        match (request.method, path.split("/")[3:]):
            case ("POST", ["resource", *segments]):
                body, name = await self._read_body(request, call), "/".join(segments)
                for _ in call.judge_resource(name, body):
                    await asyncio.sleep(0)
                call = await self._await_turn(request, path, call)
                call.put_resource(name, body)
                return Response(b"")
            case ("DELETE", ["resource", *segments]):
                call = await self._await_turn(request, path, call)
                call.delete_resource("/".join(segments))
                return Response(b"")
            case ("POST", ["reference-value"]):
                body = await self._read_body(request, call)
                call = await self._await_turn(request, path, call)
                call.register(body)
                return Response(b"")
            case ("GET", ["reference-value", *names]):
                return Response(call.list_references("/".join(names)), media_type=_JSON)
            case (_, ["attestation-policy" | "resource-policy", *_]):
                raise call.refuse_policy()
            case _:
                raise call.refuse_path()

    def _admit(self, request: Request, path: str) -> AdminCall:
        return self._service.administration.authorize(_bearer(request), f"{request.method} {path}")

    async def _read_body(self, request: Request, call: AdminCall) -> bytes:
        try:
            return await self._bodies.read(request, self._limits.admin_bytes)
        except KbsRefusedError as refusal:
            call.note_refusal(refusal)
            raise

    async def _await_turn(self, request: Request, path: str, call: AdminCall) -> AdminCall:
        """Return a call that may change the state now."""
        await self._wait_for_turn(call)
        # The owner may have removed the key since, and a body takes as long as its sender likes.
        return self._admit(request, path)

    async def _wait_for_turn(self, call: AdminCall | None = None) -> None:
        """Wait until no other process, such as a backup, holds the state; others are answered.

        Raises:
            ConfigError: `state.busy`, `state.read`.
            KbsRefusedError: for one of these, to an administrator.
        """
        end = time.monotonic() + WAIT_SECONDS
        try:
            while not may_change(self._service.state):
                if time.monotonic() > end:
                    raise busy(self._service.state)
                await asyncio.sleep(_TURN_SECONDS)
        except ConfigError as error:
            if call is None:
                raise
            raise call.refuse(error) from error

    @staticmethod
    def _session_reply(session: Session, reply: bytes) -> Response:
        response = Response(reply, media_type=_JSON)
        # Trustee sets only the value and Expires; Path is what a client would default to.
        response.headers["set-cookie"] = (
            f"{COOKIE}={session.cookie}; "
            f"Expires={format_datetime(session.expires, usegmt=True)}; "
            "Path=/kbs/v0; Secure; HttpOnly"
        )
        return response


def build_app(service: Service, limits: Limits) -> Starlette:
    """Return the ASGI application."""
    endpoint = KbsEndpoint(service, limits)
    return Starlette(routes=[Route("/{path:path}", endpoint.handle, methods=list(_METHODS))])


def _cookie(request: Request) -> str | None:
    """Return the raw value of our cookie, the last if there are several; None if there is none.

    Our values need no unquoting. Starlette unquotes every value, which before Python 3.11.10 and
    3.12.6 takes time quadratic in its length: half a minute for one head.
    """
    values = [
        value.strip()
        for header in request.headers.getlist("cookie")
        for name, _, value in (pair.partition("=") for pair in header.split(";"))
        if name.strip() == COOKIE
    ]
    return values[-1] if values else None


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None
