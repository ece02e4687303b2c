"""What the owner registered: reference values, keys, vendor roots, requirements, initdata.

Only the values and their JSON form (RATS, RFC 9334: Reference Values and Endorsements). Files are
`guest_owner.kbs.state.store`; `guest_owner.kbs.verifiers` compare evidence with these values.

A reference value file is what was predicted for one image on one platform:

    {"version": 1, "name": "trixie-1", "profile": "prod" | "test", "platform": "tpm", …}

`platform` decides the members that follow (`measurements.image`); a file without it is one of a
TPM. The profile is a property of the measurement: a `test` image can be made to say anything, so
its values must never be registered as `prod`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ccinit.errors import FormatError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.evidence.tee import Tee, evidence_needs_request
from guest_owner.kbs.references.measurements.image import READERS, ZERO_PCR, Measurements
from guest_owner.kbs.references.requirements import Requirements

MAX_REFERENCE_BYTES = 128 * 1024  # with 1024 measurements of SEV-SNP
MAX_NAME_BYTES = 64

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class Profile(StrEnum):
    """Which kind of image a measurement belongs to."""

    PROD = "prod"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """The predicted measurements of one image on one platform."""

    name: str
    profile: Profile
    measured: Measurements

    def __post_init__(self) -> None:
        check_name(self.name, "reference.name")
        if self.measured.tee is Tee.SAMPLE and self.profile is not Profile.TEST:
            raise FormatError(
                "reference.profile", "anybody can make sample evidence: it is for `test` only"
            )

    @property
    def images(self) -> tuple[str, ...]:
        """What a guest of this set may measure as, each a text such as `tpm:HEX:HEX:HEX`."""
        return tuple(
            ":".join((self.measured.tee.value, *(value.hex() for value in identity)))
            for identity in self.measured.identities
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredKey:
    """A TPM attestation key that the owner trusts; `public_der` is its SubjectPublicKeyInfo."""

    name: str
    public_der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredRoot:
    """Certificates of a vendor, DER, that the owner trusts to vouch for a platform."""

    name: str
    platform: Tee
    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredInitdata:
    """An initdata document on the owner's list.

    Attributes:
        digest: SHA-256 of the whole document, by which policies and people name it.
        sha384: the same by SHA-384, which some platforms hold.
    """

    name: str
    digest: Digest
    sha384: bytes

    @property
    def register(self) -> bytes:
        """PCR 8 after the one extend that binds the document."""
        return hashlib.sha256(ZERO_PCR + self.digest.raw).digest()

    def digest_by(self, algorithm: str) -> bytes:
        """The digest that a platform with this algorithm (`sha256`, `sha384`) holds."""
        return {"sha256": self.digest.raw, "sha384": self.sha384}[algorithm]


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Everything that evidence is compared with; empty means that nothing is trusted.

    Attributes:
        demands: of each platform with requirements, the digest of their text.
        request_key: the key that secrets of requests are sealed under; private.
    """

    sets: tuple[ReferenceSet, ...] = ()
    attestation_keys: tuple[RegisteredKey, ...] = ()
    roots: tuple[RegisteredRoot, ...] = ()
    requirements: tuple[Requirements, ...] = ()
    initdata: tuple[RegisteredInitdata, ...] = ()
    demands: Mapping[Tee, Digest] = field(default_factory=dict)
    request_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        profiles: dict[str, Profile] = {}
        for known in self.sets:
            for image in known.images:
                if profiles.setdefault(image, known.profile) is not known.profile:
                    raise FormatError(
                        "reference.profile",
                        f"{known.name}: the same measurements have another profile",
                    )

    def roots_of(self, platform: Tee) -> tuple[RegisteredRoot, ...]:
        """Return the vendor certificates that speak for a platform."""
        return tuple(root for root in self.roots if root.platform is platform)

    def basis_of(self, platform: Tee, endorsers: Iterable[bytes]) -> frozenset[str]:
        """Return digests of what an appraisal rests on, besides image and document.

        Args:
            platform: whose evidence was judged.
            endorsers: registered keys and certificates that vouch for it, DER.
        """
        vouching = {_endorser(platform, der) for der in endorsers}
        return frozenset(vouching | self._conditions(platform))

    def includes(self, basis: frozenset[str]) -> bool:
        """Whether all of an appraisal's basis is still registered; new registrations do no harm."""
        return basis <= self._whole_basis()

    def _whole_basis(self) -> frozenset[str]:
        keys = {_endorser(Tee.TPM, key.public_der) for key in self.attestation_keys}
        vendors = {
            _endorser(root.platform, der) for root in self.roots for der in root.certificates
        }
        return frozenset(keys | vendors).union(*map(self._conditions, Tee))

    def _conditions(self, platform: Tee) -> set[str]:
        found = set()
        if platform in self.demands:
            found.add(f"requirements {platform} {self.demands[platform]}")
        if evidence_needs_request(platform) and self.request_key is not None:
            digest = hashlib.sha256(b"ccinit/request-key/v1" + self.request_key).hexdigest()
            found.add(f"request key sha256:{digest}")
        return found


def _endorser(platform: Tee, der: bytes) -> str:
    return f"{platform} sha256:{hashlib.sha256(der).hexdigest()}"


def register_initdata(name: str, document: bytes) -> RegisteredInitdata:
    """Return the registration of a document."""
    digest = Digest(hashlib.sha256(document).hexdigest())
    return RegisteredInitdata(name=name, digest=digest, sha384=hashlib.sha384(document).digest())


def check_name(name: str, reason: str) -> str:
    """Return a name that is also a safe file name: `[a-z0-9-_.]`, at most 64, no leading dot.

    Raises:
        FormatError: with `reason`.
    """
    if not name or len(name) > MAX_NAME_BYTES or name.startswith("."):
        raise FormatError(reason, f"expected 1 to {MAX_NAME_BYTES} characters, no leading dot")
    if not _NAME_CHARACTERS.issuperset(name):
        raise FormatError(reason, "expected lower-case letters, digits, '-', '_' and '.'")
    return name


def parse_reference_set(data: bytes, *, name: str | None = None) -> ReferenceSet:
    """Read a reference value file.

    Args:
        data: the JSON text.
        name: use this name in place of the file's.

    Raises:
        FormatError: with a reason below `reference`.
    """
    with Fields(parse_json(data, "reference", MAX_REFERENCE_BYTES), "reference") as fields:
        fields.integer("version", low=1, high=1)
        written = fields.text("name", max_bytes=MAX_NAME_BYTES)
        profile = fields.choice("profile", Profile)
        platform = fields.choice("platform", Tee, default=Tee.TPM)
        if platform not in READERS:
            raise FormatError("reference.platform", f"no verifier for {platform}")
        measured = READERS[platform](fields)
        return ReferenceSet(name=name or written, profile=profile, measured=measured)


def encode_reference_set(reference: ReferenceSet) -> bytes:
    """Encode a reference set in the form that `parse_reference_set` reads."""
    measured = reference.measured
    value = {
        "version": 1,
        "name": reference.name,
        "profile": reference.profile.value,
        "platform": measured.tee.value,
        **measured.to_json_object(),
    }
    return json.dumps(value, indent=2).encode() + b"\n"
