"""Admission of guests that show a token of another Verifier.

A token is judged anew at every request, by what is registered then. The audit log has its claims
once, under a label that derives from the token without revealing it, and every refusal.
"""

import hashlib
import time
from collections.abc import Callable

from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.passports.judge import judge_passport
from guest_owner.kbs.passports.signature import verify_signature
from guest_owner.kbs.sessions import Attested
from guest_owner.kbs.state.store import Store

_MAX_REMEMBERED = 4096


class PassportAdmission:
    """Admits a guest whose token is by a registered issuer and passes every step."""

    def __init__(
        self, store: Store, decisions: Decisions, clock: Callable[[], float] = time.time
    ) -> None:
        """Args: clock: seconds since 1970."""
        self._store = store
        self._decisions = decisions
        self._clock = clock
        self._logged: dict[str, None] = {}

    def admit(self, token: str) -> Attested:
        """Return whom a token is about.

        Raises:
            FormatError, VerificationError: not the token of a registered issuer; not logged yet.
            EvidenceRefusedError: a registered issuer's token says what is not accepted; logged.
            ConfigError: the state or its policy cannot be read.
        """
        self._store.read_policy()  # a state without a policy is not the real one: see the broker
        signed = verify_signature(token, self._store.read_issuers())
        label = hashlib.sha256(token.encode("ascii")).hexdigest()[:16]
        try:
            passport = judge_passport(signed, self._store.read_references(), now=self._clock())
        except EvidenceRefusedError as error:
            self._decisions.refuse_passport(label, signed.issuer.name, error)
            raise
        self._log_once(label, passport.evidence)
        return Attested(
            label=label,
            tee=passport.evidence.tee,
            subject=passport.evidence.subject,
            tee_pubkey=passport.tee_pubkey,
        )

    def _log_once(self, label: str, evidence: AppraisedEvidence) -> None:
        if label in self._logged:
            return
        self._decisions.accept_evidence(label, evidence)
        self._logged[label] = None
        if len(self._logged) > _MAX_REMEMBERED:
            del self._logged[next(iter(self._logged))]
