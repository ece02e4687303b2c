"""Whether what the manifest names by sealed secrets was named by the keys that vouch for it."""

from collections.abc import Sequence

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.attest.sealed_secret import verify_sealed_secret


def verify_names(wanted: Sequence[Wanted], released: Sequence[Released]) -> None:
    """Verify every sealed secret among `wanted`, by the keys among `released`.

    Raises:
        FormatError, VerificationError: `sealed_secret.…`.
    """
    found = {one.uri: one.data for one in released}
    for one in wanted:
        for sealed in one.sealed:
            verify_sealed_secret(sealed, found[sealed.key])
