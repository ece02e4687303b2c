"""What image policies name besides: keys and roots that are resources of their own."""

from collections.abc import Sequence

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.errors import LimitExceededError
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.signature.image_policy import parse_image_policy

MAX_POLICY_KEYS = 32


def resources_of_policies(
    wanted: Sequence[Wanted], released: Sequence[Released]
) -> Sequence[ResourceUri]:
    """List the keys that image policies name instead of containing them, each once."""
    found: dict[ResourceUri, None] = {}
    for one, resource in zip(wanted, released, strict=True):
        if one.is_policy:
            found |= dict.fromkeys(parse_image_policy(resource.data).resources())
    if len(found) > MAX_POLICY_KEYS:
        raise LimitExceededError("policy.keys", f"more than {MAX_POLICY_KEYS} resources")
    return tuple(found)
