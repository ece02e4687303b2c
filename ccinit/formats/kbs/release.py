"""How much a KBS may release to a guest in one session."""

from collections.abc import Iterable

from ccinit.errors import LimitExceededError

MAX_BODY_BYTES = 1 << 20
"""Of one resource as it is stored: an envelope, or its content."""
MAX_ENCRYPTED_BYTES = 4 * MAX_BODY_BYTES // 3 + (16 << 10)
"""Of one resource as it is sent: a JWE, which has its body as base64url."""
MAX_RELEASED_BYTES = 4 << 20
"""Of all that is fetched in one session: PID 1 takes it at once."""


def check_released_size(sizes: Iterable[int]) -> None:
    """Refuse more than PID 1 takes.

    Args:
        sizes: of what the pod fetches, in bytes, without envelopes. What its image policies name
            comes in addition, even if the pod asks for it itself, too.

    Raises:
        LimitExceededError: `kbs.resources`.
    """
    size = sum(sizes)
    if size > MAX_RELEASED_BYTES:
        detail = f"expected at most {MAX_RELEASED_BYTES} bytes of resources together"
        raise LimitExceededError("kbs.resources", f"{detail}, found {size}")
