"""When the guest's TLS identity is asked for anew: a pure function of its dates.

When half of what is left of its life is over; so an identity that the KBS has not replaced is asked
for more and more often towards its end, and one that has a decade left is looked at twice a week.
After failures, sooner, with growing pauses. Everything is up to a quarter earlier by chance: guests
that were started together do not stay together. But the KBS is never asked twice within
`LEAST_SECONDS`.
"""

from typing import Final

from ccinit.formats.kbs.tls_identity import VerifiedIdentity

LEAST_SECONDS: Final = 10.0
MOST_SECONDS: Final = 84 * 3600.0  # half of the longest life that our KBS mints, a week
FIRST_PAUSE_SECONDS: Final = 30.0
LAST_PAUSE_SECONDS: Final = 900.0  # each attempt has the KBS client's own patience besides
_EARLIER: Final = 0.25


def seconds_to_renewal(
    identity: VerifiedIdentity, now: float, failures: int, chance: float
) -> float:
    """Return how long to wait before the KBS is asked again.

    Args:
        identity: the one in use.
        now: seconds since 1970, by a clock that may be far off: if it says that more is left than
            the identity's whole life, it is the life that counts.
        failures: how often in a row it has not been renewed.
        chance: from 0 up to, not including, 1.
    """
    life = identity.not_after - identity.not_before
    left = max(0.0, min(identity.not_after - now, life))
    seconds = min(left / 2, MOST_SECONDS)
    if failures:
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 16), LAST_PAUSE_SECONDS)
        seconds = min(seconds, pause) if left else pause
    return max(LEAST_SECONDS, seconds * (1 - _EARLIER * chance))
