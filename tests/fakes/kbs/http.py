"""A KBS behind the HTTP client's interface: it answers as Trustee's does, and breaks on demand.

No sockets: the guest's client gets this object as its transport. It believes every piece of
evidence that carries the expected report data; judging evidence is not its business.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ccinit.errors import PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.kbs.rcar import ERROR_PREFIX
from ccinit.net.http import Headers, HttpLimits, HttpReply
from tests.vectors.jwe.make_vectors import Recipient, seal

URL = "https://kbs.example:8080"
DATE = 1_800_000_000

UNEXPLAINED = "Attestation error: RCAR handshake Attest failed"  # all that Trustee says of `attest`

Fault = Callable[["Call"], HttpReply | None]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it came."""

    method: str
    path: str
    headers: Headers
    body: bytes
    limits: HttpLimits


def evidence_for(report_data: bytes, _request: bytes) -> JsonValue:
    """What a guest's platform says to this KBS."""
    return {"carries": report_data.hex()}


def reply(status: int, body: bytes = b"", *headers: tuple[str, str]) -> HttpReply:
    return HttpReply(status=status, headers=headers, body=body, date=DATE)


def refuse(status: int, variant: str, detail: str = "detail") -> HttpReply:
    body = json.dumps({"type": ERROR_PREFIX + variant, "detail": detail})
    return reply(status, body.encode())


@dataclass(kw_only=True)
class FakeKbs:
    """A KBS with resources by path (`r/t/t`).

    Attributes:
        seal: how a released resource is encrypted to the session's key.
        extra_params: of every challenge.
        passports: tokens of other services, with the keys that their claims name.
        cookie_seconds: what the cookie says about its life; None says nothing.
        token_seconds: likewise the token.
        released: paths of the resources that left, in their order.
        faults: taken one for each request, before the KBS answers; None lets a request through.
        nonces: given out in this order; then fresh ones.
        evidence: every piece that came.
    """

    resources: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault | None] = field(default_factory=list)
    nonces: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    evidence: list[object] = field(default_factory=list)
    additional: list[str] = field(default_factory=list)
    keys: list[dict[str, str]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    seal: Callable[[bytes, Recipient], object] = seal
    extra_params: object = ""
    passports: dict[str, Recipient] = field(default_factory=dict)
    cookie_seconds: int | None = 300
    token_seconds: int | None = None
    _sessions: dict[str, Recipient] = field(default_factory=dict)
    _challenges: dict[str, str] = field(default_factory=dict)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        limits: HttpLimits,
    ) -> HttpReply:
        assert url.startswith(URL + "/kbs/v0/")
        path = url.removeprefix(URL + "/kbs/v0/")
        call = Call(method=method, path=path, headers=headers, body=body, limits=limits)
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and (broken := fault(call)) is not None:
            return broken
        if (method, path) == ("POST", "auth"):
            return self._auth(call)
        if (method, path) == ("POST", "attest"):
            return self._attest(call)
        return self._resource(call)

    def end_sessions(self) -> None:
        """Forget every session, as a KBS does after five minutes."""
        self._sessions.clear()

    def restart(self) -> None:
        """Forget every session, and every handshake that is not over."""
        self._sessions.clear()
        self._challenges = dict.fromkeys(self._challenges, "")

    @property
    def paths(self) -> list[str]:
        return [call.path for call in self.calls]

    def _auth(self, call: Call) -> HttpReply:
        value = json.loads(call.body)
        assert (value["version"], value["tee"]) == ("0.4.0", "tpm")
        number = len(self._challenges)
        fresh = hashlib.sha256(number.to_bytes(4, "big")).digest()
        nonce = self.nonces.pop(0) if self.nonces else base64.b64encode(fresh).decode()
        cookie = f"session{number}"
        self._challenges[cookie] = nonce
        set_cookie = f"kbs-session-id={cookie}"
        if self.cookie_seconds is not None:
            set_cookie += f"; Expires={formatdate(DATE + self.cookie_seconds, usegmt=True)}"
        challenge = json.dumps({"nonce": nonce, "extra-params": self.extra_params}).encode()
        return reply(200, challenge, ("set-cookie", set_cookie))

    def _attest(self, call: Call) -> HttpReply:
        cookie = _cookie(call)
        value = json.loads(call.body)
        runtime = value["runtime-data"]
        if runtime["nonce"] != self._challenges.get(cookie):
            return refuse(401, "AttestationError", UNEXPLAINED)
        key = runtime["tee-pubkey"]
        additional = value["tee-evidence"]["additional_evidence"]
        text = json.dumps(
            {"additional-evidence": additional, "nonce": runtime["nonce"], "tee-pubkey": key},
            sort_keys=True,
            separators=(",", ":"),
        )
        evidence = value["tee-evidence"]["primary_evidence"]
        self.evidence.append(evidence)
        self.additional.append(additional)
        if evidence != {"carries": hashlib.sha384(text.encode()).digest()[:32].hex()}:
            return refuse(401, "AttestationError", UNEXPLAINED)
        self.keys.append(key)
        self._sessions[cookie] = recipient(key)
        return reply(200, json.dumps({"token": self.token()}).encode())

    def token(self) -> str:
        """A token as opaque as the guest may take it, or one that says when it ends."""
        if self.token_seconds is None:
            return "header.claims.signature"
        claims = json.dumps({"iat": DATE, "exp": DATE + self.token_seconds}).encode()
        return f"header.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.signature"

    def _resource(self, call: Call) -> HttpReply:
        token = dict(call.headers).get("authorization", "").removeprefix("Bearer ")
        key = self.passports.get(token) or self._sessions.get(_cookie(call))
        if key is None:
            return refuse(401, "TokenNotFound")
        path = call.path.removeprefix("resource/")  # what is left of a plugin's is whole
        if path not in self.resources:
            return refuse(401, "PluginInternalError")
        self.released.append(path)
        return reply(200, json.dumps(self.seal(self.resources[path], key)).encode())


def recipient(key: dict[str, str]) -> Recipient:
    """The public key of a `tee-pubkey`."""
    if key["kty"] == "RSA":
        number = {name: int.from_bytes(_decode(key[name]), "big") for name in ("n", "e")}
        return rsa.RSAPublicNumbers(number["e"], number["n"]).public_key()
    curve = {"P-256": ec.SECP256R1(), "P-521": ec.SECP521R1()}[key["crv"]]
    x, y = (int.from_bytes(_decode(key[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


def fail(reason: str) -> Fault:
    """A request that does not get through."""

    def raise_error(_call: Call) -> HttpReply:
        raise PeerError(reason, "broken on demand")

    return raise_error


def answer(given: HttpReply) -> Fault:
    """A request that gets this answer, whatever it asks."""
    return lambda _call: given


def _cookie(call: Call) -> str:
    for name, value in call.headers:
        if name == "cookie":
            return value.removeprefix("kbs-session-id=")
    return ""


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
