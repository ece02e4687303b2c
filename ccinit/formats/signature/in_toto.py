"""What a DSSE envelope signs: an in-toto statement about an image.

DSSE protocol v1 (pre-authentication encoding) and in-toto Attestation v1 and v0.1. Only a statement
whose predicate says that it is a signature is accepted: a signed statement that an image was
scanned, or built somewhere, does not say that it may run. The statement vouches for the digests of
its subjects.
"""

from collections.abc import Mapping

from ccinit.errors import FormatError, LimitExceededError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.encoding.strict_json import JsonValue, parse_json
from ccinit.formats.oci.artifact import SIGNATURE_PREDICATE
from ccinit.formats.signature.simple_signing import SignedImage

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_STATEMENT_BYTES = 64 * 1024
_TYPES = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_MAX_SUBJECTS = 64
_WHERE = "signature.statement"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that a DSSE signature is over."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def parse_statement(payload: bytes) -> SignedImage:
    """Parse a verified statement; it names an image only if all subjects have that name.

    Raises:
        FormatError: `signature.statement.…`.
    """
    value = parse_json(payload, _WHERE, MAX_STATEMENT_BYTES)
    if not isinstance(value, Mapping) or value.get("_type") not in _TYPES:
        raise FormatError(f"{_WHERE}.type", "not an in-toto statement")
    if value.get("predicateType") != SIGNATURE_PREDICATE:
        raise FormatError(f"{_WHERE}.predicate", "a statement that is not a signature")
    subjects = value.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise FormatError(f"{_WHERE}.subject", "expected at least one subject")
    if len(subjects) > _MAX_SUBJECTS:
        raise LimitExceededError(f"{_WHERE}.subject", f"more than {_MAX_SUBJECTS} subjects")
    read = [_read_subject(subject) for subject in subjects]
    names = {name for name, _digest in read}
    return SignedImage(
        digests=frozenset(
            parse_digest(f"sha256:{digest}", f"{_WHERE}.digest") for _, digest in read
        ),
        name=names.pop() or None if len(names) == 1 else None,
    )


def _read_subject(value: JsonValue) -> tuple[str, str]:
    digests = value.get("digest") if isinstance(value, Mapping) else None
    name = value.get("name", "") if isinstance(value, Mapping) else None
    digest = digests.get("sha256") if isinstance(digests, Mapping) else None
    if not isinstance(name, str) or not isinstance(digest, str):
        raise FormatError(f"{_WHERE}.subject", "expected a name and a sha256 digest")
    return name, digest
