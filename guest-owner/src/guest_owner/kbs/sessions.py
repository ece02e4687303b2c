"""Sessions of the RCAR handshake: one challenge, one attestation, then resources until they expire.

    opened ──take_for_attest──▶ attesting ──complete──▶ attested
                                    └──────drop──────▶ gone

An attestation uses up its session's nonce, whatever its outcome: a second one, concurrent or later,
finds no session to attest in. The cookie is the session's credential; `label` names it where people
read. A session's life counts from `open`, by a monotonic clock, and is never extended.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ccinit.formats.encoding.strict_json import encode_base64
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import PublicJwk
from ccinit.formats.kbs.rcar import Nonce
from guest_owner.kbs.appraisal import Subject
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.refusal import KbsRefusedError, Variant

if TYPE_CHECKING:
    from ccinit.formats.encoding.digest import Digest

_NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What an attested session, or a token of one, may act as.

    Attributes:
        basis: what the appraisal rests on (`References.basis_of`); empty if it was made just now.
    """

    label: str
    tee: Tee
    subject: Subject
    tee_pubkey: PublicJwk
    basis: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Session:
    """One guest's handshake.

    Attributes:
        expires_at: in seconds of the clock of `Sessions`, when it ends.
        expires: the same moment for the cookie, by the wall clock.
        attested: once its one attestation has succeeded.
    """

    cookie: str
    label: str
    tee: Tee
    nonce: Nonce
    expires_at: float
    expires: datetime
    is_nonce_used: bool = False
    attested: Attested | None = None


class Sessions:
    """All sessions of one server, in memory: a restart ends them all."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._by_cookie: dict[str, Session] = {}

    def open(self, tee: Tee, nonce: Nonce | None = None) -> Session:
        """Start a session with a fresh nonce, or with a verifier's fresh request in its place."""
        self._purge()
        session = Session(
            cookie=secrets.token_hex(16),
            label=secrets.token_hex(8),
            tee=tee,
            nonce=nonce or Nonce(encode_base64(secrets.token_bytes(_NONCE_BYTES))),
            expires_at=self._clock() + self._limits.session_seconds,
            expires=datetime.now(UTC) + timedelta(seconds=self._limits.session_seconds),
        )
        self._by_cookie[session.cookie] = session
        return session

    def take_for_attest(self, cookie: str | None) -> Session:
        """Return the session whose one attestation this is.

        Raises:
            KbsRefusedError: 408, unknown or expired; the attestation was used.
        """
        session = self._live(cookie)
        if session is None:
            # Not 401, which a guest takes as a final judgement: our restart, or a flood, ends
            # sessions of guests that are still making their evidence.
            detail = "no such session, or it has expired"
            raise KbsRefusedError(Variant.ATTESTATION_ERROR, detail, status=408)
        if session.is_nonce_used:
            raise KbsRefusedError(
                Variant.ATTESTATION_ERROR, "the session's challenge was used; begin with auth"
            )
        session.is_nonce_used = True
        return session

    def complete(self, session: Session, attested: Attested) -> None:
        """Record the success of an attestation."""
        session.attested = attested

    def drop(self, session: Session) -> None:
        """Forget a session whose attestation failed."""
        self._by_cookie.pop(session.cookie, None)

    def attested(self, cookie: str | None) -> Attested | None:
        """Return what the cookie's session attested as; None if it did not, or has expired."""
        session = self._live(cookie)
        return None if session is None else session.attested

    def _live(self, cookie: str | None) -> Session | None:
        session = self._by_cookie.get(cookie or "")
        if session is None or session.expires_at <= self._clock():
            return None
        return session

    def _purge(self) -> None:
        now = self._clock()
        expired = [cookie for cookie, kept in self._by_cookie.items() if kept.expires_at <= now]
        for cookie in expired:
            del self._by_cookie[cookie]
        if len(self._by_cookie) >= self._limits.sessions:
            del self._by_cookie[self._choose_to_end()]

    def _choose_to_end(self) -> str:
        """Return the cookie of a session that makes room for a new one.

        Anyone can open sessions, so those without evidence push out each other first. Chance picks
        one: in a flood the oldest would be a guest that is still making its evidence. But half of
        the places stay theirs: a guest that attests without end would else leave none in which
        another pod's could do so, and pushes out its own pod's sessions instead.
        """
        opened: list[str] = []
        of_pods: dict[Digest, list[str]] = {}
        for cookie, kept in self._by_cookie.items():
            if kept.attested is None:
                opened.append(cookie)
            else:
                of_pods.setdefault(kept.attested.subject.initdata_digest, []).append(cookie)
        if len(opened) > self._limits.sessions // 2:
            return secrets.choice(opened)
        return max(of_pods.values(), key=len)[0]
