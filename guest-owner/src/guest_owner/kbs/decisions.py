"""Recording decisions about guests before there is a reply, and what a refusal tells the peer.

The audit log has the whole reason, for the owner. The reply tells what helps the owner's guests,
but is no oracle for others. The decisions themselves are made by `guest_owner.kbs.broker`
and, about tokens of other Verifiers, by `guest_owner.kbs.passport_admission`.
"""

from ccinit.errors import CcinitError, ConfigError
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.audit.log import AuditLog
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.policy import Allow
from guest_owner.kbs.refusal import KbsRefusedError, Variant
from guest_owner.kbs.sessions import Attested, Session


class Decisions:
    """Decisions of one KBS about guests; a method that refuses returns the error to raise."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def refuse_auth(self, tee: str, error: CcinitError) -> KbsRefusedError:
        """Refuse to open a session; `tee` is what the request claims."""
        self._audit.append(
            AuditRecord(event=Event.AUTH, tee=tee, decision=Decision.REFUSED, reason=str(error))
        )
        return KbsRefusedError.because(error, Variant.ATTESTATION_ERROR, _public_text(error))

    def refuse_without_session(self, refusal: KbsRefusedError) -> None:
        """Record that evidence came outside any session that may attest."""
        self._audit.append(
            AuditRecord(event=Event.ATTEST, decision=Decision.REFUSED, reason=refusal.detail)
        )

    def accept_evidence(
        self, label: str, evidence: AppraisedEvidence, basis: frozenset[str] = frozenset()
    ) -> None:
        """Record evidence that has passed, or a token about it, under the label of its session."""
        subject = evidence.subject
        self._audit.append(
            AuditRecord(
                event=Event.ATTEST,
                session=label,
                tee=evidence.tee,
                decision=Decision.ACCEPTED,
                claims=evidence.claims,
                measured=evidence.measured,
                reference=subject.reference,
                image=subject.image,
                profile=subject.profile.value,
                initdata=str(subject.initdata_digest),
                initdata_name=subject.initdata_name,
                devices=", ".join(sorted(subject.devices)),
                basis=", ".join(sorted(basis)),
            )
        )

    def refuse_evidence(self, session: Session, error: CcinitError) -> KbsRefusedError:
        """Refuse evidence."""
        claims = error.claims if isinstance(error, EvidenceRefusedError) else ()
        self._audit.append(
            AuditRecord(
                event=Event.ATTEST,
                session=session.label,
                tee=session.tee,
                decision=Decision.REFUSED,
                reason=str(error),
                claims=claims,
            )
        )
        # Only the holder of a registered key learns which registers differ: for everyone else the
        # answer would be an oracle of what is registered.
        text = _public_text(error)
        if isinstance(error, EvidenceRefusedError) and not error.authentic:
            text = f"evidence refused: {error.reason}"
        text = f"{text} (audit session {session.label})"
        return KbsRefusedError.because(error, Variant.ATTESTATION_ERROR, text)

    def refuse_passport(self, label: str, issuer: str, error: EvidenceRefusedError) -> None:
        """Record that what a registered issuer says about a guest is refused."""
        self._audit.append(
            AuditRecord(
                event=Event.ATTEST,
                session=label,
                decision=Decision.REFUSED,
                reason=str(error),
                claims=error.claims,
                measured={"passport": {"issuer": issuer}},
            )
        )

    def release(self, attested: Attested, resource: str, allowed: Allow, minted: str) -> None:
        """Record a release; `minted` says what was made for this guest alone."""
        rule = f"{allowed.number}: {allowed.rule.resources}"
        self._append_resource(attested, resource, Decision.RELEASED, rule=rule, minted=minted)

    def deny(
        self, attested: Attested, resource: str, reason: CcinitError | str, variant: Variant
    ) -> KbsRefusedError:
        """Refuse to release a resource."""
        self._append_resource(attested, resource, Decision.DENIED, reason=str(reason))
        # Trustee's texts: a client must not learn more about a resource that it may not get.
        text = (
            "Access denied by policy" if variant is Variant.POLICY_DENY else "Plugin internal error"
        )
        return KbsRefusedError.because(reason, variant, text)

    def deny_stranger(self, reason: str) -> None:
        """Record the refused request for a resource of someone who has not attested."""
        self._audit.append(
            AuditRecord(event=Event.RESOURCE, decision=Decision.DENIED, reason=reason)
        )

    def _append_resource(
        self,
        attested: Attested,
        resource: str,
        decision: Decision,
        *,
        reason: str = "",
        rule: str = "",
        minted: str = "",
    ) -> None:
        subject = attested.subject
        self._audit.append(
            AuditRecord(
                event=Event.RESOURCE,
                session=attested.label,
                tee=attested.tee,
                decision=decision,
                reason=reason,
                reference=subject.reference,
                profile=subject.profile.value,
                initdata=str(subject.initdata_digest),
                initdata_name=subject.initdata_name,
                devices=", ".join(sorted(subject.devices)),
                resource=resource,
                rule=rule,
                minted=minted,
            )
        )


def _public_text(error: CcinitError) -> str:
    """Return what a stranger may know: what is wrong with the request, but nothing of our state."""
    return "internal error" if isinstance(error, ConfigError) else error.detail
