"""The table of an appraisal: what was expected, what the evidence says, and the verdict on each.

One form for `guest-owner verify`, which makes an appraisal, and `guest-owner audit show`, which
reads one that the KBS made.
"""

from collections.abc import Iterable

from guest_owner.kbs.appraisal import Claim
from guest_owner.table import format_table

_HEADER = ("claim", "expected", "got", "verdict")


def format_claims(claims: Iterable[Claim]) -> str:
    """Return the table as text for a terminal."""
    rows = (
        (claim.name, claim.expected, claim.got, "ok" if claim.holds else "REFUSED")
        for claim in claims
    )
    return format_table(_HEADER, rows)
