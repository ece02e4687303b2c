"""How the KBS says no on the wire: Trustee's error variants and status codes.

Trustee answers 404 for a path that it does not serve, 403 for what its policy denies, and 401 for
everything else; clients tell causes apart by the last segment of `type`. CoCo's client takes 401
for the end of its session, and attests twice more before it gives up.

Bodies that are too large or too slow get 413 and 408, as Trustee's HTTP layer answers before its
own code runs. Evidence whose session is unknown or has expired is merely too late: 408, too. A
fault in the owner's own state is 500: it is no judgement of the peer, who may ask again. What an
administrator asks for and has to undo something else for first is 409.
"""

from enum import StrEnum
from typing import Self

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.kbs.rcar import ERROR_PREFIX, ErrorInformation, encode_error_information


class Variant(StrEnum):
    """Last segment of the error `type`, spelled as Trustee spells it."""

    ADMIN_AUTH_ACCESS = "AdminAuthAccess"
    ATTESTATION_ERROR = "AttestationError"
    INVALID_REQUEST_PATH = "InvalidRequestPath"
    PLUGIN_INTERNAL_ERROR = "PluginInternalError"
    PLUGIN_NOT_FOUND = "PluginNotFound"
    POLICY_DENY = "PolicyDeny"
    POLICY_ENGINE_ERROR = "PolicyEngineError"
    RVPS_ERROR = "RvpsError"
    TOKEN_NOT_FOUND = "TokenNotFound"  # noqa: S105 - the name of an error
    TOKEN_VERIFIER_ERROR = "TokenVerifierError"  # noqa: S105 - the name of an error


_CONFLICTS = frozenset(("resource.minted", "resource.volume_key"))
_STATUSES = {
    Variant.INVALID_REQUEST_PATH: 404,
    Variant.PLUGIN_NOT_FOUND: 404,
    Variant.POLICY_DENY: 403,
}


class KbsRefusedError(CcinitError):
    """A request that gets an error reply; `detail` goes to the peer, so it holds no secret."""

    def __init__(self, variant: Variant, detail: str, *, status: int | None = None) -> None:
        super().__init__(f"kbs.{variant.value}", detail)
        self.variant = variant
        self.status = status or _STATUSES.get(variant, 401)

    @classmethod
    def because(cls, error: CcinitError | str, variant: Variant, detail: str) -> Self:
        """Return a refusal with `detail` for the error's words; 500 or 409 for a `ConfigError`."""
        status = None
        if isinstance(error, ConfigError):
            status = 409 if error.reason in _CONFLICTS else 500
        return cls(variant, detail, status=status)

    def to_bytes(self) -> bytes:
        """Return the JSON body of the reply."""
        return encode_error_information(
            ErrorInformation(type=ERROR_PREFIX + self.variant.value, detail=self.detail)
        )
