"""The table of an appraisal: what was expected, what the evidence says, and the verdict on each.

One form for `guest-owner verify`, which makes an appraisal, and `guest-owner audit show`, which
reads one that the KBS made.
"""

import textwrap
from collections.abc import Iterable

from guest_owner.kbs.appraisal import ONE_OF, Claim
from guest_owner.table import format_table

_HEADER = ("claim", "expected", "got", "verdict")
_MAX_SHOWN = 2
_MAX_NAMED = 60


def format_claims(claims: Iterable[Claim]) -> str:
    """Return the table as text for a terminal."""
    rows = (
        (claim.name, _shorten(claim), claim.got, "ok" if claim.holds else "REFUSED")
        for claim in claims
    )
    return format_table(_HEADER, rows)


def _shorten(claim: Claim) -> str:
    """Return what was expected; of many registered values only the one that matched, or the names.

    Otherwise twenty registered pods would make this line two thousand characters long, and all
    other lines of the table with it.
    """
    values = claim.expected.removeprefix(ONE_OF).split(", ")
    if not claim.expected.startswith(ONE_OF) or len(values) <= _MAX_SHOWN:
        return claim.expected
    met = [value for value in values if value.split(" ", 1)[0] == claim.got]
    if met:
        return f"{met[0]}, one of {len(values)}"
    names = ", ".join(value.partition(" (")[2].removesuffix(")") for value in values)
    return f"{ONE_OF}{len(values)}: {textwrap.shorten(names, _MAX_NAMED, placeholder='…')}"
