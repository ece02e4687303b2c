"""Files that say what is trusted, as the owner names them on a command line.

`register` copies them into the state directory; `verify` trusts them for one run. Their formats are
`guest_owner.kbs.references`, `roots` and `requirements` beside it and, for keys,
SubjectPublicKeyInfo (RFC 5280 section 4.1) in PEM or DER.
"""

from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from ccinit.errors import FormatError
from ccinit.formats.initdata import MAX_DOCUMENT_BYTES
from ccinit.formats.tee import Tee
from guest_owner.kbs.files import read_capped
from guest_owner.kbs.references import (
    MAX_REFERENCE_BYTES,
    References,
    RegisteredKey,
    RegisteredRoot,
    parse_reference_set,
    register_initdata,
)
from guest_owner.kbs.requirements import MAX_REQUIREMENTS_BYTES, parse_requirements
from guest_owner.kbs.roots import MAX_ROOT_BYTES, parse_certificates
from guest_owner.kbs.store import MAX_KEY_BYTES


def read_public_key(path: Path) -> bytes:
    """Return a public key's SubjectPublicKeyInfo, DER.

    Raises:
        FormatError: `ak.form`, it looks like PEM and is none.
    """
    data = read_capped(path, MAX_KEY_BYTES)
    if not data.startswith(b"-----"):
        return data
    try:
        key = load_pem_public_key(data)
    except ValueError as error:
        raise FormatError("ak.form", "not a PEM public key") from error
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
    """Return the registrations that these files amount to; what is not named is not trusted.

    The certificates of `roots` speak for the platform `tee`; `requirements` are demands on it.
    """
    return References(
        sets=tuple(
            parse_reference_set(read_capped(path, MAX_REFERENCE_BYTES)) for path in references
        ),
        attestation_keys=tuple(
            RegisteredKey(name=path.name, public_der=read_public_key(path))
            for path in attestation_keys
        ),
        roots=tuple(
            RegisteredRoot(
                name=path.name,
                platform=tee,
                certificates=parse_certificates(read_capped(path, MAX_ROOT_BYTES)),
            )
            for path in roots
        ),
        requirements=tuple(
            parse_requirements(read_capped(path, MAX_REQUIREMENTS_BYTES), tee)
            for path in requirements
        ),
        initdata=tuple(
            register_initdata(path.stem, read_capped(path, MAX_DOCUMENT_BYTES))
            for path in documents
        ),
    )
