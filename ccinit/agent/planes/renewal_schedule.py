"""When to ask for the guest's TLS identity anew: a pure function of its dates.

The KBS is asked when half of the identity's remaining life has passed: more and more often as an
identity that the KBS does not replace nears its end, and twice a week for one with a decade left.
After failures it is asked sooner, with growing pauses. A random factor makes each time up to a
quarter earlier, so that guests that started together drift apart. The KBS is never asked twice
within `MIN_SECONDS`.
"""

from typing import Final

from ccinit.formats.kbs.tls_identity import VerifiedIdentity

MIN_SECONDS: Final = 10.0
MAX_SECONDS: Final = 84 * 3600.0  # half of the longest life that our KBS gives: a week
FIRST_PAUSE_SECONDS: Final = 30.0
LAST_PAUSE_SECONDS: Final = 900.0  # in addition to the KBS client's own retries
_EARLIER: Final = 0.25


def seconds_to_renewal(
    identity: VerifiedIdentity, now: float, failures: int, chance: float
) -> float:
    """Return how long to wait before the KBS is asked again.

    Args:
        identity: the one in use.
        now: seconds since 1970, by a clock that may be far off: the remaining life counts as at
            most the identity's whole life.
        failures: how many renewals have failed in a row.
        chance: in [0, 1).
    """
    life = identity.not_after - identity.not_before
    left = max(0.0, min(identity.not_after - now, life))
    seconds = min(left / 2, MAX_SECONDS)
    if failures:
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 16), LAST_PAUSE_SECONDS)
        seconds = min(seconds, pause) if left else pause
    return max(MIN_SECONDS, seconds * (1 - _EARLIER * chance))
