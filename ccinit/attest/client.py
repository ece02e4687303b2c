"""Attest to the owner's KBS and fetch what it releases.

Drives `ccinit.attest.exchange` over `ccinit.net`, keeps the one session, decrypts replies with its
key and compares them with what was asked for. The paths are those of Trustee's KBS, `/kbs/v0/…`.
Another process makes the evidence: in the guest, the one that speaks to the KBS has no TPM. Setting
the clock from a reply's date is left to PID 1.

A session is renewed, always with a new key, before the lifetime that the KBS gave it ends, and once
more per call if the KBS says that it has ended earlier. Resources fetched by then are kept. A
handshake whose session may have expired midway is repeated once, too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from ccinit.attest.composite import DeviceAttester, collect_additional_evidence
from ccinit.attest.exchange import Exchange, UsedNonces
from ccinit.attest.jwe import decrypt_jwe
from ccinit.attest.passport import PassportSource
from ccinit.attest.patience import (
    DEFAULT_LIMITS,
    AttestLimits,
    Patience,
    Waiting,
)
from ccinit.attest.ports import EvidenceFor, HttpTransport
from ccinit.attest.refusal import KbsRefusedError, Remedy, refusal
from ccinit.attest.session import (
    COOKIE_NAME,
    parse_session_cookie,
    token_seconds,
    usable_seconds,
)
from ccinit.attest.tee_key import TeeKey, generate_tee_key
from ccinit.errors import PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee, evidence_needs_request
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, verify_envelope
from ccinit.formats.kbs.jwk import PublicJwk, TeeKeyAlgorithm
from ccinit.formats.kbs.rcar import Nonce
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.net.http import Headers, HttpLimits, HttpReply
from ccinit.secret import Secret
from ccinit.values import field, frozen, replace

R = TypeVar("R")

PATH: Final = "/kbs/v0"
_REFUSAL_BYTES: Final = 64 * 1024
_PLAIN_TYPE: Final = "text/xml"  # of Trustee's plugins without encryption

# No part of a reply has arrived, so the request may be sent again. Whatever else `net` refuses
# (certificate, version, framing) a retry cannot cure.
_RETRYABLE: Final = frozenset(
    ("net.closed", "net.deadline", "net.dns", "net.resolver", "net.timeout", "net.unreachable")
)


@frozen
class AttestationResult:
    """A finished handshake.

    Attributes:
        token: the KBS's encoded attestation result; opaque here, and a credential.
        date: of the KBS's last reply, seconds since 1970, or None; never another service's.
    """

    token: str = field(repr=False)
    date: int | None


@frozen
class Resource:
    """A released resource.

    Attributes:
        body: the decrypted body, whole.
        date: of the reply, seconds since 1970, or None.
        tee_pubkey: the session key that it was encrypted to.
    """

    body: Secret
    date: int | None
    tee_pubkey: PublicJwk


@frozen
class EnvelopedResource:
    """A released resource, verified to be the one asked for; other attributes as in Resource."""

    envelope: Envelope
    date: int | None
    tee_pubkey: PublicJwk


@frozen
class _Session:
    """An attested session; `ends_at` is on `Waiting`'s clock, or None if its end is unknown."""

    key: TeeKey
    ends_at: float | None


class KbsClient:
    """One guest's conversation with one KBS."""

    def __init__(  # noqa: PLR0913 - keywords, half of them optional
        self,
        *,
        url: str,
        transport: HttpTransport,
        tee: Tee,
        evidence_for: EvidenceFor,
        init_data: str | None,
        parameters: Mapping[str, JsonValue] | None = None,
        devices: Sequence[DeviceAttester] = (),
        passport: PassportSource | None = None,
        key_algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.P256,
        limits: AttestLimits = DEFAULT_LIMITS,
        waiting: Waiting | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: `https://host[:port]`.
            transport: under a pinned context.
            tee: the platform.
            evidence_for: makes the evidence that carries the given report data.
            init_data: the initdata document's text.
            parameters: what a request has to tell of the platform.
            devices: vouch for this guest, too.
            passport: the service that appraises this guest; None leaves that to the KBS.
            key_algorithm: the kind of key that each handshake offers, and its replies must use.
            limits: time limits, delays and sizes.
            waiting: provides clock and sleep.
        """
        self._url = url.rstrip("/") + PATH
        self._transport = transport
        self._tee = tee
        self._evidence_for = evidence_for
        self._init_data = init_data
        self._parameters = parameters or {}
        self._devices = devices
        self._passport = passport
        self._key_algorithm = key_algorithm
        self._limits = limits
        self._waiting = waiting or Waiting()
        self._ends_at = self._waiting.now() + limits.total_seconds
        self._used_nonces = UsedNonces()
        self._session: _Session | None = None
        self._cookie = ""
        self._bearer_token = ""
        self._retry_after: float | None = None

    def attest(self) -> AttestationResult:
        """Make one handshake, with a new key, retrying while that can help.

        Raises:
            KbsRefusedError: `kbs.…`, final.
            PeerError: `net.…`, final; `kbs.nonce_repeated`, `kbs.cookie`.
            FormatError: `rcar.…`.
            LimitExceededError: `kbs.handshakes`.
            DeadlineError: `kbs.unreachable`.
        """
        return self._attest(self._patience())

    def get_resource(self, uri: KbsUri, *, post: bytes = b"") -> Resource:
        """Fetch and decrypt one resource, or what a plugin of the KBS makes for this guest.

        Attests first if there is no session, or only one that is about to end. A session that ends
        meanwhile is renewed once, with a new key.

        Args:
            uri: names the resource.
            post: a body for a plugin, which may get it more than once; empty for a GET.

        Raises:
            KbsRefusedError: `kbs.…`, final.
            PeerError: `kbs.unencrypted`, a plugin whose replies are not encrypted to the session
                key.
            VerificationError: `jwe.decrypt`.
            FormatError: `jwe.…`, `jwk.…` or `rcar.…`.
            PeerError, DeadlineError: as `attest`.
        """
        patience = self._patience()
        if not self._is_session_usable():
            self._attest(patience)
        try:
            return self._fetch(uri, post, patience)
        except KbsRefusedError as error:
            if error.remedy is not Remedy.ATTEST_AGAIN:
                raise
        self._attest(patience)
        return self._fetch(uri, post, patience)

    def get_envelope(self, uri: ResourceUri, kind: EnvelopeKind) -> EnvelopedResource:
        """Fetch a resource in an envelope that has to name `uri` and `kind`.

        Raises:
            VerificationError: `envelope.uri`, `envelope.kind`.
            FormatError: `envelope.…`.
            PeerError, DeadlineError: as `get_resource`.
        """
        resource = self.get_resource(uri)
        with resource.body as body:
            envelope = verify_envelope(body.reveal(), uri, kind)
        return EnvelopedResource(
            envelope=envelope, date=resource.date, tee_pubkey=resource.tee_pubkey
        )

    def _patience(self) -> Patience:
        """Return one call's patience: its own back-off, within the time that earlier calls left.

        Otherwise the caller's own deadline would end this, without a reason.
        """
        left_seconds = self._ends_at - self._waiting.now()
        return Patience(replace(self._limits, total_seconds=left_seconds), self._waiting)

    def _is_session_usable(self) -> bool:
        if self._session is None:
            return False
        ends_at = self._session.ends_at
        return ends_at is None or self._waiting.now() < ends_at

    def _attest(self, patience: Patience) -> AttestationResult:
        source = self._passport
        if source is not None:
            return self._with_retries(patience, lambda: self._obtain_passport(source, patience))
        try:
            return self._with_retries(patience, lambda: self._handshake(patience))
        except KbsRefusedError as error:
            if error.remedy is not Remedy.ATTEST_AGAIN:
                raise
        return self._with_retries(patience, lambda: self._handshake(patience))

    def _with_retries(self, patience: Patience, attempt: Callable[[], R]) -> R:
        """Make attempts until one succeeds, a retry cannot help, or the time is up."""
        while True:
            try:
                return attempt()
            except PeerError as error:
                if not _may_retry(error):
                    raise
                patience.wait_after(error, self._retry_after)

    def _handshake(self, patience: Patience) -> AttestationResult:
        # The old session ends here, whether or not the handshake succeeds.
        key = generate_tee_key(self._key_algorithm)
        self._session, self._cookie = None, ""
        began = self._waiting.now()
        exchange = Exchange(
            self._tee, key, used_nonces=self._used_nonces, parameters=self._parameters
        )
        reply = self._send("POST", "/auth", patience, exchange.encode_request())
        digest = exchange.receive_challenge(reply.status, reply.body)
        self._used_nonces.add(exchange.nonce)
        cookie = parse_session_cookie(reply)
        self._cookie = cookie.value
        additional = collect_additional_evidence(self._devices, digest)
        evidence = self._make_evidence(exchange.bind_devices(additional), exchange.nonce)
        body = exchange.encode_attestation(evidence, self._init_data)
        reply = self._send("POST", "/attest", patience, body)
        token = exchange.receive_token(reply.status, reply.body).token
        # Counted from before the first request, to err on the short side.
        life = usable_seconds(cookie.seconds, token_seconds(token, reply.date))
        self._session = _Session(key=key, ends_at=None if life is None else began + life)
        return AttestationResult(token=token, date=reply.date)

    def _obtain_passport(self, source: PassportSource, patience: Patience) -> AttestationResult:
        key = generate_tee_key(self._key_algorithm)
        self._session, self._bearer_token = None, ""
        self._retry_after = None
        began = self._waiting.now()
        passport = source.obtain(key.public_jwk, patience.request_seconds)
        self._bearer_token = passport.token
        life = usable_seconds(passport.seconds)
        self._session = _Session(key=key, ends_at=None if life is None else began + life)
        return AttestationResult(token=passport.token, date=None)

    def _fetch(self, uri: KbsUri, post: bytes, patience: Patience) -> Resource:
        return self._with_retries(patience, lambda: self._get(uri, post, patience))

    def _make_evidence(self, report_data: ReportData, nonce: Nonce) -> JsonValue:
        request = nonce.encode() if evidence_needs_request(self._tee) else b""
        return self._evidence_for(report_data, request)

    def _get(self, uri: KbsUri, post: bytes, patience: Patience) -> Resource:
        if self._session is None:
            raise RuntimeError("a resource is fetched in a session")
        key = self._session.key
        method = "POST" if post else "GET"
        reply = self._send(method, f"/{uri.request_path}", patience, post)
        if reply.status != 200:
            raise refusal(reply.status, reply.body).about(uri)
        if (reply.header("content-type") or "").startswith(_PLAIN_TYPE):
            raise PeerError("kbs.unencrypted", f"{uri}: the KBS does not encrypt what this makes")
        body = decrypt_jwe(reply.body, key)
        return Resource(body=body, date=reply.date, tee_pubkey=key.public_jwk)

    def _send(self, method: str, path: str, patience: Patience, body: bytes = b"") -> HttpReply:
        headers: Headers = (("cookie", f"{COOKIE_NAME}={self._cookie}"),) if self._cookie else ()
        if self._bearer_token:
            headers = (*headers, ("authorization", f"Bearer {self._bearer_token}"))
        if body:
            headers = (*headers, ("content-type", "application/json"))
        limits = HttpLimits(
            total_seconds=patience.request_seconds, max_body_bytes=self._limits.max_resource_bytes
        )
        self._retry_after = None
        reply = self._transport.request(
            method, self._url + path, headers=headers, body=body, limits=limits
        )
        self._retry_after = reply.retry_after_seconds
        return reply


def ask_time(url: str, transport: HttpTransport) -> int:
    """Return the KBS's time in seconds since 1970, whatever else it replies.

    Args:
        url: as for `KbsClient`.
        transport: as for `KbsClient`.

    Raises:
        PeerError: `kbs.date`; `net.…`.
        FormatError: `net.…`.
    """
    limits = HttpLimits(max_body_bytes=_REFUSAL_BYTES)
    reply = transport.request("GET", f"{url.rstrip('/')}{PATH}/auth", limits=limits)
    if reply.date is None:
        raise PeerError("kbs.date", "the reply has no Date")
    return reply.date


def _may_retry(error: PeerError) -> bool:
    if isinstance(error, KbsRefusedError):
        return error.remedy is Remedy.RETRY
    return error.reason in _RETRYABLE
