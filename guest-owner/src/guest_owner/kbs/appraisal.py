"""The result of verifying evidence: what was compared, and what may be believed afterwards.

RATS terms (RFC 9334): the Verifier appraises Evidence; these values are its Attestation Result
inside the KBS. Their signed form on the wire is `guest_owner.kbs.token`.
"""

from dataclasses import dataclass

from ccinit.errors import VerificationError
from ccinit.formats.digest import Digest
from guest_owner.kbs.references import Profile, ReferenceSet, RegisteredInitdata


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One comparison of the appraisal: public values in text form, never a secret.

    Attributes:
        name: what was compared, in the dotted form of error reasons (`pcr.9`).
        expected: what would have been accepted.
        got: what the evidence says.
        holds: whether they agree.
    """

    name: str
    expected: str
    got: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who asks for a resource, as far as a policy cares."""

    reference: str
    profile: Profile
    initdata_name: str
    initdata_digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisedEvidence:
    """Evidence that passed every step; only a verifier makes one.

    Attributes:
        reference: the registered set that the boot registers equal.
        initdata: the registered document that the guest bound.
        pcrs: the 24 quoted registers of the sha256 bank, 32 bytes each.
        attestation_key_der: the signing key's SubjectPublicKeyInfo.
        report_data: the quote's extra data.
        claims: every comparison that was made, all of which hold.
    """

    reference: ReferenceSet
    initdata: RegisteredInitdata
    pcrs: tuple[bytes, ...]
    attestation_key_der: bytes
    report_data: bytes
    claims: tuple[Claim, ...]

    @property
    def subject(self) -> Subject:
        """The part that the appraisal policy decides on."""
        return Subject(
            reference=self.reference.name,
            profile=self.reference.profile,
            initdata_name=self.initdata.name,
            initdata_digest=self.initdata.digest,
        )


class EvidenceRefusedError(VerificationError):
    """Evidence that failed at least one step.

    The reason is the name of the first claim that does not hold, in the order of the steps.

    Attributes:
        claims: every comparison that was made, for the audit log.
        authentic: whether a registered key signed these registers for this request; if not, the
            values in `claims` are the sender's invention.
    """

    def __init__(self, claims: tuple[Claim, ...], *, authentic: bool) -> None:
        failed = [claim for claim in claims if not claim.holds]
        names = ", ".join(claim.name for claim in failed)
        super().__init__(failed[0].name, f"evidence refused: {names}")
        self.claims = claims
        self.authentic = authentic
