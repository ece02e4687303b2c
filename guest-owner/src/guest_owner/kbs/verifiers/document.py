"""Is the initdata document that evidence is bound to on the owner's list?

The step that all platforms share, with the claim `initdata.digest`. Evidence may come along with a
document; then the platform has to hold that document's digest, which is a claim of its own.
"""

from collections.abc import Callable, Collection

from ccinit.formats.evidence.tee import Tee, initdata_binding
from guest_owner.kbs.appraisal import ClaimList, list_known
from guest_owner.kbs.references.values import RegisteredInitdata

NO_DOCUMENT = "nothing that binds a document"


def check_document(
    tee: Tee, digest: bytes | None, listed: Collection[RegisteredInitdata], claims: ClaimList
) -> RegisteredInitdata | None:
    """Return the registered document of that digest; None if there is none.

    Args:
        tee: the platform, which decides by which algorithm documents are named.
        digest: by that algorithm; None if nothing names a document.
        listed: what the owner registered.
        claims: gets `initdata.digest`.
    """
    algorithm = initdata_binding(tee).algorithm
    return _check(
        digest,
        listed,
        claims,
        held=lambda known: known.digest_by(algorithm),
        named=lambda value: f"{algorithm}:{value.hex()}",
    )


def check_bound_document(
    tee: Tee,
    field: str,
    held: bytes,
    digest: bytes | None,
    listed: Collection[RegisteredInitdata],
    claims: ClaimList,
) -> RegisteredInitdata | None:
    """Return the registered document that a platform's field binds; None if there is none.

    Args:
        tee: the platform.
        field: its name, the claim that it holds `digest`.
        held: its value.
        digest: of the document that came along; None if none came: then the field selects one.
        listed: what the owner registered.
        claims: gets `initdata.digest` and, for a document that came along, the field's.
    """
    if digest is None:
        return check_document(tee, held, listed, claims)
    claims.compare_bytes(field, digest, held)
    return check_document(tee, digest, listed, claims)


def check_register(
    register: bytes, listed: Collection[RegisteredInitdata], claims: ClaimList
) -> RegisteredInitdata | None:
    """Return the registered document that PCR 8 was extended with; None if there is none."""
    return _check(
        register,
        listed,
        claims,
        held=lambda known: known.register,
        named=lambda value: f"PCR 8 {value.hex()}",
    )


def _check(
    wanted: bytes | None,
    listed: Collection[RegisteredInitdata],
    claims: ClaimList,
    *,
    held: Callable[[RegisteredInitdata], bytes],
    named: Callable[[bytes], str],
) -> RegisteredInitdata | None:
    found = next((known for known in listed if held(known) == wanted), None)
    names = tuple(f"{named(held(known))} ({known.name})" for known in listed)
    got = NO_DOCUMENT if wanted is None else named(wanted)
    claims.compare("initdata.digest", list_known(names), got, holds=found is not None)
    return found
