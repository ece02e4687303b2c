"""Keys and roots of an image policy: refused here before a guest fails because of them in PULL.

By the guest's rules and with its reasons. The guest loads only what the policy demands of the image
that it pulls; whoever writes a policy is told of all of it.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ccinit.errors import FormatError
from ccinit.formats.kbs.resource_uri import KbsUri
from ccinit.formats.signature.image_policy import ImagePolicy, KeySource, SigstoreSigned

_SIGNER: Final = "policy.key"
_LOG: Final = "policy.rekor_key"
_ROOTS: Final = "policy.fulcio"
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
_MAX_ROOTS: Final = 8
_UNREADABLE = (
    ValueError,
    TypeError,  # for a name that is a bit string
    LookupError,  # for text in an encoding that Python has not
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    UserWarning,  # what the library's next version will refuse
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyKeyUse:
    """What one source in a policy has to hold.

    Attributes:
        reason: the guest's, for what does not hold it.
    """

    reason: str
    source: KeySource

    def check(self, pem: bytes) -> None:
        """Refuse a text that is of no use here.

        Raises:
            FormatError: `policy.key`, `policy.rekor_key`, `policy.fulcio`.
        """
        if self.reason == _ROOTS:
            _check_roots(pem)
        else:
            _check_key(pem, self.reason)


def list_key_uses(policy: ImagePolicy) -> Iterator[PolicyKeyUse]:
    """Yield every key and root of every scope, whether in the policy or in a resource."""
    for requirements in (policy.default, *policy.scopes.values()):
        for requirement in requirements:
            if isinstance(requirement, SigstoreSigned):
                fulcio = requirement.fulcio
                roots = () if fulcio is None else (fulcio.roots,)
                parts = ((_SIGNER, requirement.keys), (_ROOTS, roots))
                for reason, sources in (*parts, (_LOG, requirement.rekor_keys)):
                    for source in sources:
                        yield PolicyKeyUse(reason=reason, source=source)


def check_keys(policy: ImagePolicy, contents: Mapping[KbsUri, bytes]) -> None:
    """Refuse keys and roots that no guest could use.

    Args:
        policy: whose own ones are judged.
        contents: of the resources to be judged, too, by their names.

    Raises:
        FormatError: as `PolicyKeyUse.check`.
    """
    for use in list_key_uses(policy):
        if isinstance(use.source, bytes):
            use.check(use.source)
        elif use.source in contents:
            try:
                use.check(contents[use.source])
            except FormatError as error:
                raise FormatError(error.reason, f"{use.source}: {error.detail}") from error


def _check_key(pem: bytes, reason: str) -> None:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError(reason, "not a PEM public key") from error
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1 | SECP384R1):
        return
    is_rsa = isinstance(key, RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS
    if not is_rsa and not isinstance(key, Ed25519PublicKey):
        raise FormatError(reason, "expected ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits")
    if reason == _LOG:
        raise FormatError(reason, "a log's key is on P-256 or P-384")


def _check_roots(pem: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            roots = x509.load_pem_x509_certificates(pem)
            _names = [(root.subject, root.issuer) for root in roots]
        except _UNREADABLE as error:
            raise FormatError(_ROOTS, "not a certificate") from error
    if len(roots) > _MAX_ROOTS:
        raise FormatError(_ROOTS, f"more than {_MAX_ROOTS} certificates")
