"""`signedIdentity` of a policy: which name a signature must give to the image that is pulled.

containers-policy.json(5), "signedIdentity", for references by digest, which the guest's always are:
so the default accepts every tag and digest in the same repository. cosign's command line signs
names without a tag, which only `matchRepository` and `exactRepository` accept. `matchDigest` is our
own: it accepts a signature that names no image at all (a Sigstore bundle, for example) for the
digest that it is over.
"""

from typing import TypeAlias

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.oci.docker_reference import (
    DockerReference,
    parse_docker_reference,
    parse_name_prefix,
)
from ccinit.values import frozen

_REASON = "signature.identity"


@frozen
class MatchExact:
    """The same name, with the same tag or digest."""


@frozen
class MatchRepoDigestOrExact:
    """The same tag; or any tag or digest in the same repository if the image has a digest."""


@frozen
class MatchRepository:
    """The same repository."""


@frozen
class ExactReference:
    """This name with this tag or digest, whatever is pulled."""

    reference: DockerReference


@frozen
class ExactRepository:
    """This repository, whatever is pulled."""

    name: str


@frozen
class RemapIdentity:
    """`MatchRepoDigestOrExact`, with `prefix` of the pulled name replaced by `signed_prefix`."""

    prefix: str
    signed_prefix: str


@frozen
class MatchDigest:
    """The digest is enough; the name in the signature, if there is one, is ignored."""


SignedIdentity: TypeAlias = (
    MatchExact
    | MatchRepoDigestOrExact
    | MatchRepository
    | ExactReference
    | ExactRepository
    | RemapIdentity
    | MatchDigest
)


def read_signed_identity(fields: Fields) -> SignedIdentity:
    """Read the object `signedIdentity`.

    Raises:
        FormatError: `policy.identity`.
    """
    kind = fields.text("type")
    match kind:
        case "matchExact":
            return MatchExact()
        case "matchRepoDigestOrExact":
            return MatchRepoDigestOrExact()
        case "matchRepository":
            return MatchRepository()
        case "matchDigest":
            return MatchDigest()
        case "exactReference":
            reference = parse_docker_reference(fields.text("dockerReference"), "policy.identity")
            if reference.is_name_only:
                raise FormatError("policy.identity", "exactReference without a tag or digest")
            return ExactReference(reference=reference)
        case "exactRepository":
            text = fields.text("dockerRepository")
            return ExactRepository(name=parse_docker_reference(text, "policy.identity").name)
        case "remapIdentity":
            return RemapIdentity(
                prefix=parse_name_prefix(fields.text("prefix"), "policy.identity"),
                signed_prefix=parse_name_prefix(fields.text("signedPrefix"), "policy.identity"),
            )
        case _:
            raise FormatError("policy.identity", f"unknown signedIdentity {kind[:80]!r}")


def verify_identity(wanted: SignedIdentity, pulled: DockerReference, claimed: str | None) -> None:
    """Check the name in a signature.

    Args:
        wanted: what the policy demands.
        pulled: the reference that the owner wrote, never a mirror's.
        claimed: the signature's `docker-reference`, or None if it has none.

    Raises:
        VerificationError: `signature.identity`.
    """
    if isinstance(wanted, MatchDigest):
        return
    if not claimed:
        raise VerificationError(_REASON, "the signature names no image")
    try:
        reference = parse_docker_reference(claimed, _REASON)
    except FormatError as error:
        raise VerificationError(_REASON, f"the signature names {claimed[:200]!r}") from error
    if not _matches(wanted, pulled, reference):
        raise VerificationError(_REASON, f"the signature is for {reference.text}")


def _matches(wanted: SignedIdentity, pulled: DockerReference, claimed: DockerReference) -> bool:
    match wanted:
        case MatchExact():
            return _is_exact(pulled, claimed)
        case MatchRepoDigestOrExact():
            return _is_repo_digest_or_exact(pulled, claimed)
        case MatchRepository():
            return pulled.name == claimed.name
        case ExactReference():
            return wanted.reference == claimed
        case ExactRepository():
            return wanted.name == claimed.name
        case RemapIdentity():
            return _is_repo_digest_or_exact(_remap(wanted, pulled), claimed)
        case MatchDigest():
            return True


def _is_exact(pulled: DockerReference, claimed: DockerReference) -> bool:
    return not claimed.is_name_only and pulled == claimed


def _is_repo_digest_or_exact(pulled: DockerReference, claimed: DockerReference) -> bool:
    if pulled.tag is None and pulled.digest is not None:
        return not claimed.is_name_only and pulled.name == claimed.name
    return _is_exact(pulled, claimed)


def _remap(remap: RemapIdentity, pulled: DockerReference) -> DockerReference:
    """Replace the prefix if it ends at a slash or with the name; else change nothing."""
    rest = pulled.name.removeprefix(remap.prefix)
    if rest and rest[0] != "/":
        return pulled
    return DockerReference(name=remap.signed_prefix + rest, tag=pulled.tag, digest=pulled.digest)
