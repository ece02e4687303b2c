"""Trustee with what an owner exports for it, and claims with one of them broken."""

from typing import Any

from guest_owner.kbs.policy import parse_policy
from guest_owner.kbs.references.values import References
from guest_owner.trustee.export import appraisal_policy, reference_values, resource_policy
from tests.fakes.kbs.trustee import Trustee

PATH = ["ccinit", "shop", "file-password"]
"""What the one rule releases."""
POLICY = parse_policy(b"""
version = 1
[[rule]]
resources = "ccinit/shop/*"
profile = "prod"
references = ["image-1", "direct"]
initdata = ["shop"]
""")


def trustee_with(known: References) -> Trustee:
    return Trustee(
        appraisal_policy=appraisal_policy(),
        resource_policy=resource_policy(POLICY, known),
        reference_values=reference_values(known),
    )


def broken(claims: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """The claims with another value at a dotted place; None takes it away."""
    *path, name = place.split(".")
    at = claims
    for step in path:
        at = at[step]
    if value is None:
        del at[name]
    else:
        at[name] = value
    return claims
