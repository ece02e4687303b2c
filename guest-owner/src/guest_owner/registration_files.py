"""Files that say what is trusted, as the owner names them on a command line.

`register` copies them into the state directory; `verify` trusts them for one run. Their formats are
described in `guest_owner.kbs.references` (`values`, `roots`, `requirements`); keys are
SubjectPublicKeyInfo (RFC 5280 section 4.1) in PEM or DER.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from ccinit.errors import FormatError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES
from guest_owner.files import naming, read_capped
from guest_owner.kbs.references.requirements import MAX_REQUIREMENTS_BYTES, parse_requirements
from guest_owner.kbs.references.roots import MAX_ROOT_BYTES, parse_certificates
from guest_owner.kbs.references.values import (
    MAX_REFERENCE_BYTES,
    References,
    RegisteredKey,
    RegisteredRoot,
    parse_reference_set,
    register_initdata,
)
from guest_owner.kbs.state.reference_files import MAX_KEY_BYTES

T = TypeVar("T")


def parse_public_key(data: bytes) -> bytes:
    """Return a public key's SubjectPublicKeyInfo in DER; `data` is DER or PEM.

    Raises:
        FormatError: `ak.form`, it looks like PEM and is not.
    """
    if not data.startswith(b"-----"):
        return data
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError("ak.form", "not a PEM public key of a known kind") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_named_files(
    tee: Tee,
    *,
    references: Iterable[Path],
    attestation_keys: Iterable[Path],
    roots: Iterable[Path],
    requirements: Iterable[Path],
    documents: Iterable[Path],
) -> References:
    """Return the registrations in these files; nothing else is trusted.

    The certificates of `roots` speak for the platform `tee`; `requirements` are demands on it.

    Raises:
        FormatError: as the readers of each kind say; the detail begins with the file's name.
    """

    def root(path: Path, data: bytes) -> RegisteredRoot:
        return RegisteredRoot(name=path.name, platform=tee, certificates=parse_certificates(data))

    return References(
        sets=_parsed(
            references, MAX_REFERENCE_BYTES, lambda _path, data: parse_reference_set(data)
        ),
        attestation_keys=_parsed(
            attestation_keys,
            MAX_KEY_BYTES,
            lambda path, data: RegisteredKey(name=path.name, public_der=parse_public_key(data)),
        ),
        roots=_parsed(roots, MAX_ROOT_BYTES, root),
        requirements=_parsed(
            requirements, MAX_REQUIREMENTS_BYTES, lambda _path, data: parse_requirements(data, tee)
        ),
        initdata=_parsed(
            documents,
            MAX_DOCUMENT_BYTES,
            lambda path, data: register_initdata(path.stem, data),
        ),
    )


def _parsed(
    paths: Iterable[Path], max_bytes: int, parse: Callable[[Path, bytes], T]
) -> tuple[T, ...]:
    parsed = []
    for path in paths:
        data = read_capped(path, max_bytes)
        with naming(path):
            parsed.append(parse(path, data))
    return tuple(parsed)
