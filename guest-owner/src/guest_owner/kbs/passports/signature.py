"""Who signed a token: a JWS (RFC 7515, compact) against the keys of registered issuers.

The steps, all of them MUST, with the reason of a failure in brackets:

    1. It is a compact JWS of bounded size, of strict JSON [`passport.form`, `passport.header.…`,
       `passport.claims.…`].
    2. Its claim `iss` names a registered issuer [`passport.issuer`].
    3. Its header has no member unknown here, and names an algorithm and a key that the owner
       registered for this issuer and that belong together [`passport.header`,
       `passport.algorithm`, `passport.key`].
    4. The signature verifies with that key [`passport.signature`].

The header only selects among registered keys: a key, a certificate or an address in it is never
used. `judge` beside this appraises the claims.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.encoding.strict_json import JsonValue, decode_base64url, parse_json
from guest_owner.kbs.passports.issuer import Issuer
from guest_owner.kbs.passports.key_set import Algorithm, IssuerKey

MAX_PASSPORT_BYTES = 48 * 1024

_HEADER_MEMBERS = frozenset(("alg", "jku", "kid", "typ"))


@dataclass(frozen=True, slots=True)
class SignedClaims:
    """The claims that a registered issuer has signed."""

    issuer: Issuer
    claims: Mapping[str, JsonValue]


def name_issuer(token: str) -> str | None:
    """Return the issuer that a token names, unverified; None if it cannot be read."""
    try:
        issuer = _read(token.split(".")[1], "passport.claims").get("iss")
    except (CcinitError, IndexError):
        return None
    return issuer if isinstance(issuer, str) else None


def verify_signature(token: str, issuers: Iterable[Issuer]) -> SignedClaims:
    """Make steps 1 to 4.

    Raises:
        FormatError, VerificationError: as the steps say.
    """
    # Step 1
    if len(token) > MAX_PASSPORT_BYTES or not token.isascii() or token.count(".") != 2:
        raise FormatError("passport.form", "not a compact JWS")
    signed, _, signature = token.rpartition(".")
    header, claims = (
        _read(part, where)
        for part, where in zip(
            signed.split("."), ("passport.header", "passport.claims"), strict=True
        )
    )
    # Step 2
    issuer = next((known for known in issuers if known.terms.issuer == claims.get("iss")), None)
    if issuer is None:
        raise VerificationError("passport.issuer", "no registered issuer")
    # Step 3
    algorithm = _check_algorithm(header, issuer)
    key = _find_key(header, algorithm, issuer)
    # Step 4
    padding, digest = _scheme(algorithm)
    raw = decode_base64url(signature, "passport.form")
    try:
        key.public_key.verify(raw, signed.encode("ascii"), padding, digest)
    except InvalidSignature as error:
        raise VerificationError("passport.signature", f"not by {issuer.name}") from error
    return SignedClaims(issuer, claims)


def _check_algorithm(header: Mapping[str, JsonValue], issuer: Issuer) -> Algorithm:
    unknown = set(header) - _HEADER_MEMBERS
    if unknown or header.get("typ", "JWT") != "JWT":
        raise VerificationError("passport.header", "more than alg, jku, kid and typ = JWT")
    for algorithm in issuer.terms.algorithms:
        if header.get("alg") == algorithm.value:
            return algorithm
    known = ", ".join(sorted(issuer.terms.algorithms))
    raise VerificationError("passport.algorithm", f"{issuer.name} signs by {known}")


def _find_key(header: Mapping[str, JsonValue], algorithm: Algorithm, issuer: Issuer) -> IssuerKey:
    key = next((known for known in issuer.keys if known.kid == header.get("kid")), None)
    if key is None:
        raise VerificationError(
            "passport.key", f"not a registered key of {issuer.name}; has it a new one?"
        )
    if key.algorithm not in {None, algorithm}:
        raise VerificationError("passport.algorithm", f"the key is for {key.algorithm}")
    return key


def _scheme(algorithm: Algorithm) -> tuple[AsymmetricPadding, HashAlgorithm]:
    match algorithm:
        case Algorithm.RS256:
            return PKCS1v15(), SHA256()
        case Algorithm.PS384:
            return PSS(mgf=MGF1(SHA384()), salt_length=PSS.DIGEST_LENGTH), SHA384()


def _read(part: str, where: str) -> Mapping[str, JsonValue]:
    value = parse_json(decode_base64url(part, "passport.form"), where, MAX_PASSPORT_BYTES)
    if not isinstance(value, Mapping):
        raise FormatError(where, "not an object")
    return value
