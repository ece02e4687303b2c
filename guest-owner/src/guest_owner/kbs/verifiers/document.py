"""Is the initdata document that evidence is bound to on the owner's list?

The step that all platforms share, with one claim, `initdata.digest`. Before it, each verifier has
to check that the platform holds the digest of the document that came along.
"""

from collections.abc import Callable, Collection

from ccinit.formats.evidence.tee import Tee, initdata_binding
from guest_owner.kbs.appraisal import ClaimList, list_known
from guest_owner.kbs.references import RegisteredInitdata

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
