"""The result of verifying evidence: what was compared, and what may be believed afterwards.

RATS terms (RFC 9334): the Verifier appraises Evidence; these values are its Attestation Result
inside the KBS, the same for every platform. Their signed form on the wire is
`guest_owner.kbs.token`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import Tee
from guest_owner.kbs.references.values import Profile, References, ReferenceSet, RegisteredInitdata

NOTHING = "nothing is registered"
ONE_OF = "one of "


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


class ClaimList:
    """The comparisons that a verifier has made so far, in the order of its steps."""

    def __init__(self) -> None:
        self.made: list[Claim] = []

    def compare(self, name: str, expected: str, got: str, *, holds: bool) -> None:
        """Add one comparison."""
        self.made.append(Claim(name=name, expected=expected, got=got, holds=holds))

    def compare_bytes(self, name: str, expected: bytes, got: bytes) -> None:
        """Add the comparison of two values that have to be equal."""
        self.compare(name, expected.hex(), got.hex(), holds=expected == got)

    def fail(self, error: FormatError) -> None:
        """Add a failed claim for a part that cannot be read, under the error's reason."""
        self.compare(error.reason, "well-formed", error.detail, holds=False)

    @property
    def all_hold(self) -> bool:
        """Whether nothing was refused so far."""
        return all(claim.holds for claim in self.made)

    def settle(
        self,
        reference: ReferenceSet | None,
        initdata: RegisteredInitdata | None,
        *,
        authentic: bool,
    ) -> tuple[ReferenceSet, RegisteredInitdata]:
        """End an appraisal: return the guest's reference set and document, if every claim holds.

        Args:
            reference: the set that the measurements equal, if there is one.
            initdata: the document that the guest is bound to, if it is registered.
            authentic: see `EvidenceRefusedError`.

        Raises:
            EvidenceRefusedError: a claim does not hold.
        """
        if not self.all_hold:
            raise EvidenceRefusedError(tuple(self.made), authentic=authentic)
        if reference is None or initdata is None:
            raise RuntimeError("a verifier that finds nothing says so by a claim")
        return reference, initdata


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who asks for a resource, as far as a policy cares.

    Attributes:
        reference: the name of the set that the guest was appraised with.
        image: what it measures, one of that set's `images`.
        reference_aliases, initdata_aliases: every name that the image and the document are
            registered under when a policy decides; neither tokens nor the audit log have them.
    """

    reference: str
    image: str
    profile: Profile
    initdata_name: str
    initdata_digest: Digest
    devices: frozenset[str] = frozenset()
    reference_aliases: frozenset[str] = frozenset()
    initdata_aliases: frozenset[str] = frozenset()

    def with_aliases(self, references: References) -> Self:
        """Return the same subject, with every name that its image and document have."""
        images = (known.name for known in references.sets if self._measures(known))
        documents = (
            known.name for known in references.initdata if known.digest == self.initdata_digest
        )
        return replace(
            self, reference_aliases=frozenset(images), initdata_aliases=frozenset(documents)
        )

    def is_registered(self, references: References) -> bool:
        """Whether what the guest was appraised with is still registered, under the same names.

        Policy rules and minted resources go by name, so a name that stands for another image or
        document by now must not count for this guest.
        """
        return any(
            known.name == self.reference and self._measures(known) for known in references.sets
        ) and any(
            (known.name, known.digest) == (self.initdata_name, self.initdata_digest)
            for known in references.initdata
        )

    def _measures(self, known: ReferenceSet) -> bool:
        return known.profile is self.profile and self.image in known.images


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisedDevice:
    """An appraised device beside the platform; `token_claims` are as Trustee's verifier's."""

    name: str
    token_claims: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisedEvidence:
    """Evidence that passed every step; only a verifier makes one.

    Attributes:
        tee: whose verifier it was.
        reference: the registered set that the measurements equal, with no others in it.
        initdata: the registered document that the guest is bound to.
        initdata_field: the register or launch field that binds it; its value in the evidence.
        report_data: what the evidence carries.
        measured: for the audit log: hex values by name, in groups (`{"pcr": {"0": …}}`).
        token_claims: what Trustee's verifier of this platform would say about it.
        claims: every comparison that was made, all of which hold.
        endorsers: registered keys and certificates that vouch for it, DER; none where evidence is
            judged anew for every request.
        devices: what else vouches for the guest.
        additional_evidence: the devices' evidence as text, which the platform's evidence covers.
    """

    tee: Tee
    reference: ReferenceSet
    initdata: RegisteredInitdata
    initdata_field: bytes
    report_data: bytes
    measured: Mapping[str, Mapping[str, str]]
    token_claims: Mapping[str, JsonValue]
    claims: tuple[Claim, ...]
    endorsers: tuple[bytes, ...]
    devices: tuple[AppraisedDevice, ...] = ()
    additional_evidence: str = ""

    @property
    def subject(self) -> Subject:
        """The part that the appraisal policy decides on."""
        (image,) = self.reference.images
        return Subject(
            reference=self.reference.name,
            image=image,
            profile=self.reference.profile,
            initdata_name=self.initdata.name,
            initdata_digest=self.initdata.digest,
            devices=frozenset(device.name for device in self.devices),
        )


class EvidenceRefusedError(VerificationError):
    """Evidence that failed at least one step.

    The reason is the name of the first claim, in the order of the steps, that does not hold.

    Attributes:
        claims: every comparison that was made, for the audit log.
        failed: names of those that do not hold.
        authentic: whether a registered key, or one that a registered root vouches for, signed
            these values for this request; if not, those in `claims` may be the sender's invention.
    """

    def __init__(self, claims: tuple[Claim, ...], *, authentic: bool) -> None:
        failed = tuple(claim.name for claim in claims if not claim.holds)
        super().__init__(failed[0], f"evidence refused: {', '.join(failed)}")
        self.claims = claims
        self.failed = failed
        self.authentic = authentic


class Verifier(Protocol):
    """Judges the evidence of one platform; pure."""

    def __call__(
        self,
        evidence: JsonValue,
        *,
        report_data: bytes,
        initdata_digest: bytes | None,
        references: References,
    ) -> AppraisedEvidence:
        """Make every step of the platform.

        Args:
            evidence: untrusted, in the form of Trustee's verifier.
            report_data: what the evidence has to carry, in the platform's own length.
            initdata_digest: by the platform's algorithm, of the document that came with the
                evidence; None if none came: then the evidence has to bind one of the registered
                documents, which is found by it.
            references: everything that is trusted.

        Raises:
            FormatError: it is not evidence of this platform.
            EvidenceRefusedError: at least one step failed; the reason is the first one's claim.
        """


def list_known(values: tuple[str, ...]) -> str:
    """Return what would have been accepted, as text for a claim."""
    if not values:
        return NOTHING
    return values[0] if len(values) == 1 else ONE_OF + ", ".join(values)
