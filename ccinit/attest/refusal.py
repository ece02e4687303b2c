"""What a KBS's refusal means: its reason, and whether to stop, to retry or to attest again.

A KBS gives the cause in the `type` of its error body; the status alone does not distinguish a
denied resource from an absent one (Trustee answers 401 to nearly everything). But a status that
says that the KBS itself is in trouble (a full disk, a file being edited) is no judgement, whatever
type comes with it. A reply without such a body is judged by its status. The human-readable texts go
only to the owner's log.
"""

from enum import Enum, auto
from typing import Final

from ccinit.errors import FormatError, PeerError
from ccinit.formats.kbs.rcar import parse_error_information
from ccinit.formats.kbs.resource_uri import KbsUri

_MAX_DETAIL_CHARACTERS = 512


class Remedy(Enum):
    """What the guest may do about a refusal."""

    STOP = auto()
    RETRY = auto()
    ATTEST_AGAIN = auto()


class KbsRefusedError(PeerError):
    """The KBS refused; `remedy` is what the guest may do about it."""

    def __init__(self, reason: str, detail: str, remedy: Remedy) -> None:
        super().__init__(reason, detail)
        self.remedy = remedy

    def about(self, uri: KbsUri) -> "KbsRefusedError":
        """Return the same refusal, naming the resource that it is about, as a KBS does not."""
        return KbsRefusedError(self.reason, f"{uri}: {self.detail}", self.remedy)


_VARIANTS: Final = {
    "AdminAuthAccess": ("kbs.admin_auth_access", Remedy.STOP),
    "AttestationError": ("kbs.attestation_error", Remedy.STOP),
    "InvalidRequestPath": ("kbs.invalid_request_path", Remedy.STOP),
    "JweError": ("kbs.jwe_error", Remedy.STOP),
    "ParsePolicyError": ("kbs.policy_engine_error", Remedy.STOP),
    # Also what Trustee answers for a resource that does not exist.
    "PluginInternalError": ("kbs.plugin_internal_error", Remedy.STOP),
    "PluginNotFound": ("kbs.plugin_not_found", Remedy.STOP),
    "PolicyDeny": ("kbs.policy_deny", Remedy.STOP),
    "PolicyEngineError": ("kbs.policy_engine_error", Remedy.STOP),
    "PrometheusError": ("kbs.prometheus_error", Remedy.STOP),
    "RvpsError": ("kbs.rvps_error", Remedy.STOP),
    "SerdeError": ("kbs.serde_error", Remedy.STOP),
    # The session or its token has ended; a new one needs new evidence and a new key.
    "TokenNotFound": ("kbs.token_not_found", Remedy.ATTEST_AGAIN),
    "TokenVerifierError": ("kbs.token_verifier_error", Remedy.ATTEST_AGAIN),
}

# Trustee has one error variant for all failed handshakes; only the text distinguishes this one.
_VERSION_TEXT: Final = "KBS Client Protocol Version Mismatch"
# And this is all that it says when `attest` fails, for either cause: the evidence was rejected, or
# the session is unknown (Trustee was restarted, or another replica began it).
_UNEXPLAINED_TEXT: Final = "RCAR handshake Attest failed"

_TRANSIENT_STATUSES: Final = frozenset((408, 425, 429, 500, 502, 503, 504))


def refusal(status: int, body: bytes) -> KbsRefusedError:
    """Return what a reply other than 200 means; never fails, whatever the body."""
    if 300 <= status < 400:
        return KbsRefusedError("kbs.redirect", f"status {status}, not followed", Remedy.STOP)
    try:
        information = parse_error_information(body)
    except FormatError:
        return _by_status(status)
    detail = f"status {status}: {information.detail[:_MAX_DETAIL_CHARACTERS]!r}"
    if information.variant == "AttestationError" and _VERSION_TEXT in information.detail:
        return KbsRefusedError("kbs.version", detail, Remedy.STOP)
    if information.variant not in _VARIANTS:
        return _by_status(status)
    reason, remedy = _VARIANTS[information.variant]
    if information.variant == "AttestationError" and information.detail.endswith(_UNEXPLAINED_TEXT):
        remedy = Remedy.ATTEST_AGAIN
    return KbsRefusedError(reason, detail, Remedy.RETRY if is_transient(status) else remedy)


def is_transient(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status in _TRANSIENT_STATUSES


def _by_status(status: int) -> KbsRefusedError:
    if is_transient(status):
        return KbsRefusedError("kbs.busy", f"status {status}", Remedy.RETRY)
    if status == 403:
        return KbsRefusedError("kbs.forbidden", f"status {status}", Remedy.STOP)
    return KbsRefusedError("kbs.status", f"status {status}", Remedy.STOP)
