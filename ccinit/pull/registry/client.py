"""The distribution API (distribution-spec v1.1, "Pulling") of one registry, under the pod's CA.

It does the retries, redirects and authentication of GET requests; `fetch` knows what the bytes
mean. Redirects are followed by our own rules: https only, no address literal or local name except
the registry's own, and no `Authorization` header once the origin changes. A broken download resumes
where it stopped; that is safe because the receiver hashes all bytes.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from ccinit.errors import LimitExceededError, PeerError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.oci.credentials import Credential
from ccinit.formats.oci.image import MAX_MANIFEST_BYTES, MediaType
from ccinit.formats.oci.reference import HTTPS_PORT, ImageReference
from ccinit.kernel.clock import boottime
from ccinit.net.http import Headers, HttpLimits, HttpReply
from ccinit.pull.registry.authentication import (
    MAX_TOKEN_REPLY_BYTES,
    BasicChallenge,
    parse_token,
    select_challenge,
    token_request,
)
from ccinit.pull.registry.redirect import MAX_REDIRECTS, follow_redirect
from ccinit.pull.registry.refusal import describe_status, refusal
from ccinit.values import frozen, replace

_MIN_BODY_BYTES = 64 * 1024
_MAX_WAIT_SECONDS = 60.0
_FIRST_WAIT_SECONDS = 1.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 429, 500, 502, 503, 504, *range(520, 528)})
"""Transient statuses; the last are Cloudflare's, which fronts registries and their stores."""
_BROKEN = frozenset(
    (
        "net.closed",
        "net.protocol",
        "net.range",
        "net.resolver",
        "net.timeout",
        "net.truncated",
        "net.unreachable",
    )
)
_WHOLE = HttpReply(status=200, headers=(), body=b"", date=None)
_ACCEPT_MANIFEST: Headers = (("accept", ", ".join(MediaType)),)

Send = Callable[[str, Headers, HttpLimits], HttpReply]


class Http(Protocol):
    """What is used of `ccinit.net.http.HttpClient`."""

    def request(
        self, method: str, url: str, *, headers: Headers, body: bytes = b"", limits: HttpLimits
    ) -> HttpReply:
        """Send a request and return the whole reply."""

    def stream_get(
        self,
        url: str,
        *,
        headers: Headers,
        sink: Callable[[bytes], None],
        limits: HttpLimits,
        offset: int,
    ) -> HttpReply:
        """Download from `offset` on into `sink`."""


class Download(Protocol):
    """Where a blob's bytes go; it can be restarted."""

    @property
    def received_bytes(self) -> int:
        """How many bytes have come."""

    @property
    def missing_bytes(self) -> int:
        """How many bytes are still to come."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; refuse more than the blob has."""

    def restart(self) -> None:
        """Forget what has come."""


@frozen
class RegistryLimits:
    """Limits of a pull: the total time, the longest silence, and the number of attempts.

    Attributes:
        attempts: for each request; including the pauses between them, a registry may be down for a
            minute, as for a restart.
        progress_bytes: a break costs no attempt if this much of a blob is new since the last break
            that cost none. So a large layer gets through a connection that breaks now and then, at
            the price of at most one more request per 16 MiB, and a server that sends little at a
            time is asked no more often than for a small blob.
    """

    total_seconds: float
    wait_seconds: float = 30.0
    attempts: int = 7
    progress_bytes: int = 16 << 20


class Registry:
    """GET requests for one image's repository."""

    def __init__(
        self,
        http: Http,
        reference: ImageReference,
        credential: Credential | None,
        limits: RegistryLimits,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args: credential: for this registry, or None; sleep: waits some seconds."""
        self._http = http
        self._reference = reference
        self._credential = credential
        self._limits = limits
        self._sleep = sleep
        self._end = boottime() + limits.total_seconds
        self._authorization: str | None = None
        self._base = f"https://{reference.authority}/v2/{reference.repository}"

    def manifest(self, digest: Digest) -> HttpReply:
        """Fetch an index or manifest; its digest is still to be checked."""
        url = f"{self._base}/manifests/{digest}"
        return self._get(url, self._request, MAX_MANIFEST_BYTES, _ACCEPT_MANIFEST)

    def find(
        self, path: str, max_bytes: int, accept: Sequence[str], absent: frozenset[int] = frozenset()
    ) -> HttpReply | None:
        """Fetch something small below the repository; None if the registry does not have it.

        Args:
            path: after `/v2/<repository>/`.
            max_bytes: of the body.
            accept: media types to ask for; empty means any.
            absent: statuses that count as 404 here; a redirect among them is not followed.
        """

        def send(url: str, headers: Headers, limits: HttpLimits) -> HttpReply:
            reply = self._request(url, headers, limits)
            return replace(reply, status=404) if reply.status in absent else reply

        headers = (("accept", ", ".join(accept)),) if accept else ()
        try:
            return self._get(f"{self._base}/{path}", send, max_bytes, headers)
        except PeerError as error:
            if error.reason == "registry.not_found":
                return None
            raise

    def blob(self, digest: Digest, download: Download) -> None:
        """Download a whole blob, resuming after a break where it stopped.

        Only the bytes count: a reply that breaks off after the last one is fine.

        Raises:
            PeerError: `registry.…` or `net.…`, the attempts are used up, or the time is.
            VerificationError: `pull.blob_size`, the blob is longer than announced.
        """

        def send(url: str, headers: Headers, limits: HttpLimits) -> HttpReply:
            offset = download.received_bytes
            try:
                reply = self._http.stream_get(
                    url, headers=headers, sink=download.feed, limits=limits, offset=offset
                )
            except PeerError as error:
                if not download.missing_bytes and error.reason in _BROKEN:
                    return _WHOLE  # it broke after the last byte, so there is no range to ask for
                if error.reason != "net.range":
                    raise
                download.restart()  # the service does not support ranges
                if not offset:
                    raise
                return send(url, headers, limits)  # all of it, which uses up no attempt more
            if reply.status == 206 and download.missing_bytes:
                # Less than was asked for, as RFC 9110 section 15.3.7 allows.
                raise PeerError("net.truncated", f"{self._place}: sent a part of the rest")
            return reply

        if download.missing_bytes:
            # The whole blob, in case the service does not support ranges; and room for a refusal's
            # body.
            max_bytes = max(download.received_bytes + download.missing_bytes, _MIN_BODY_BYTES)
            url = f"{self._base}/blobs/{digest}"
            self._get(url, send, max_bytes, received=lambda: download.received_bytes)

    def _request(self, url: str, headers: Headers, limits: HttpLimits) -> HttpReply:
        return self._http.request("GET", url, headers=headers, limits=limits)

    def _get(
        self,
        url: str,
        send: Send,
        max_bytes: int,
        headers: Headers = (),
        received: Callable[[], int] = lambda: 0,
    ) -> HttpReply:
        """Send until it succeeds, is refused, or the attempts are used up.

        `received` says how far a download has come; without range support it falls back to 0, and
        then has to get further than before to count as progress.
        """
        wait_seconds = _FIRST_WAIT_SECONDS
        last: PeerError | None = None
        left, furthest = self._limits.attempts, received()
        while left:
            if last is not None:
                wait_seconds = min(wait_seconds, _MAX_WAIT_SECONDS)
                if wait_seconds >= self._end - boottime():
                    break  # report the failure, not the lack of time
                self._sleep(wait_seconds)
                wait_seconds *= 2
            try:
                reply = self._follow(url, send, max_bytes, headers)
            except PeerError as error:
                if error.reason not in _BROKEN:
                    raise
                last = error
                if received() - furthest < self._limits.progress_bytes:
                    left -= 1
                else:
                    furthest, wait_seconds = received(), _FIRST_WAIT_SECONDS
                continue
            if reply.status in (200, 206):
                return reply
            if reply.status not in _BUSY:
                raise refusal(reply, self._known, self._place)
            left -= 1
            last = PeerError("registry.busy", f"{self._place}: {describe_status(reply)}")
            wait_seconds = max(wait_seconds, reply.retry_after_seconds or 0.0)
        raise last or PeerError("registry.busy", "no attempt was allowed")

    def _follow(self, url: str, send: Send, max_bytes: int, headers: Headers) -> HttpReply:
        """Send once, following redirects, and authenticating at most once."""
        target = url
        has_authenticated = False
        redirects = 0
        while True:
            reply = self._send(send, target, headers, self._http_limits(max_bytes))
            if reply.status == 401 and self._is_registry(target) and not has_authenticated:
                busy = self._authenticate(reply)
                if busy is not None:
                    return busy
                has_authenticated = True
            elif reply.status in _REDIRECTS:
                redirects += 1
                if redirects > MAX_REDIRECTS:
                    raise PeerError("registry.redirects", f"more than {MAX_REDIRECTS}")
                target = follow_redirect(target, reply.header("location"), self._reference.host)
            else:
                return reply

    def _send(self, send: Send, url: str, headers: Headers, limits: HttpLimits) -> HttpReply:
        if self._authorization is not None and self._is_registry(url):
            headers = (*headers, ("authorization", self._authorization))
        try:
            return send(url, headers, limits)
        except LimitExceededError as error:
            if error.reason != "net.body":
                raise
            raise VerificationError("pull.blob_size", error.detail) from error

    def _authenticate(self, reply: HttpReply) -> HttpReply | None:
        """Get the `Authorization` value that a 401 reply asks for.

        Some registries say only at the root of the API how they want it.

        Returns:
            None, or the reply of a registry or a token service that is busy.
        """
        offered = reply.header_values("www-authenticate")
        if not offered:
            limits = self._http_limits(_MIN_BODY_BYTES)
            root = self._request(f"https://{self._reference.authority}/v2/", (), limits)
            if root.status in _BUSY:
                return root
            offered = root.header_values("www-authenticate")
        challenge = select_challenge(offered)
        if isinstance(challenge, BasicChallenge):
            if self._credential is None or self._credential.identity_token:
                needed = f"{self._reference.authority}: a password is needed and none is known"
                raise PeerError("registry.unauthorized", needed)
            self._authorization = self._credential.authorization()
            return None
        limits = self._http_limits(MAX_TOKEN_REPLY_BYTES)
        ask = token_request(challenge, self._reference, self._credential)
        token = self._http.request(
            ask.method, ask.url, headers=ask.headers, body=ask.body, limits=limits
        )
        if token.status in _BUSY:
            return token
        if token.status != 200:
            said = f"the token service says {token.status} to {self._known}"
            raise PeerError("registry.token", said)
        self._authorization = parse_token(token.body)
        return None

    @property
    def _known(self) -> str:
        """What the owner has to check if access is refused."""
        return "no credential" if self._credential is None else "the credential"

    @property
    def _place(self) -> str:
        """Where the image is asked for; it may be a mirror."""
        return f"{self._reference.authority}/{self._reference.repository}"

    def _is_registry(self, url: str) -> bool:
        target = urlsplit(url)
        port = target.port or HTTPS_PORT
        return (target.hostname, port) == (
            self._reference.host,
            self._reference.port or HTTPS_PORT,
        )

    def _http_limits(self, max_body_bytes: int) -> HttpLimits:
        left_seconds = self._end - boottime()
        if left_seconds <= 0:
            raise PeerError("registry.deadline", "the time for this image is over")
        return HttpLimits(
            wait_seconds=self._limits.wait_seconds,
            total_seconds=left_seconds,
            max_body_bytes=max_body_bytes,
        )
