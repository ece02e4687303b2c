"""The debug grant: the KBS's permission to debug one guest, and no other, for a while.

The data of an envelope of the kind `debug-grant` (DESIGN section 12), JSON:

    {"evidence_key": SHA-256, "expires_s": N, "tools_root": SHA-256, "keep_pod": false}

`evidence_key` is the RFC 7638 thumbprint of the key that this very session attested with, so that a
grant opens one guest in one session: a copy of it opens nothing. Digests are lower-case hex,
`expires_s` counts seconds since 1970 on the KBS's clock.
"""

from typing import Final

from ccinit.errors import VerificationError
from ccinit.formats.disk.verity import HASH_BYTES, RootHash
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.encoding.json_text import encode_json
from ccinit.formats.encoding.strict_json import MAX_INTEGER, parse_json
from ccinit.formats.kbs.jwk import PublicJwk
from ccinit.values import frozen

MAX_GRANT_BYTES: Final = 1024
MAX_GRANT_SECONDS: Final = 24 * 3600
"""How far ahead a grant may end; a longer one is a mistake."""
_KEY_BYTES: Final = 32


@frozen
class DebugGrant:
    """What was granted.

    Attributes:
        evidence_key: thumbprint of the session's key, 32 bytes.
        expires_s: seconds since 1970.
        tools_root: root hash of the volume that the shell comes from.
        keep_pod: the pod keeps running, and the debugger can reach its secrets.
    """

    evidence_key: bytes
    expires_s: int
    tools_root: RootHash
    keep_pod: bool


def parse_debug_grant(data: bytes) -> DebugGrant:
    """Read a grant without verifying it.

    Raises:
        FormatError, LimitExceededError: `debug.grant.…`.
    """
    with Fields(parse_json(data, "debug.grant", MAX_GRANT_BYTES), "debug.grant") as fields:
        return DebugGrant(
            evidence_key=fields.hexadecimal("evidence_key", size_bytes=_KEY_BYTES),
            expires_s=fields.integer("expires_s", low=0, high=MAX_INTEGER),
            tools_root=RootHash(fields.hexadecimal("tools_root", size_bytes=HASH_BYTES)),
            keep_pod=fields.boolean("keep_pod"),
        )


def verify_debug_grant(data: bytes, session_key: PublicJwk, now_s: int) -> DebugGrant:
    """Return the grant if it is for this session and now.

    Args:
        data: of the envelope.
        session_key: what the reply was encrypted to.
        now_s: the KBS's time, seconds since 1970.

    Raises:
        FormatError, LimitExceededError: `debug.grant.…`.
        VerificationError: `debug.evidence_key`, another session's; `debug.expired`;
            `debug.too_long`, it would be valid for more than a day.
    """
    grant = parse_debug_grant(data)
    if grant.evidence_key != session_key.thumbprint():
        raise VerificationError("debug.evidence_key", "the grant is for another session's key")
    left = grant.expires_s - now_s
    if left <= 0:
        raise VerificationError("debug.expired", f"the grant ended {-left} s ago")
    if left > MAX_GRANT_SECONDS:
        raise VerificationError(
            "debug.too_long", f"expected at most {MAX_GRANT_SECONDS} s, found {left}"
        )
    return grant


def encode_debug_grant(grant: DebugGrant) -> bytes:
    """Encode a grant as `parse_debug_grant` reads it."""
    value = {
        "evidence_key": grant.evidence_key.hex(),
        "expires_s": grant.expires_s,
        "tools_root": grant.tools_root.hex(),
        "keep_pod": grant.keep_pod,
    }
    return encode_json(value)
