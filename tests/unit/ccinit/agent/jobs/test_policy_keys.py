"""Keys that an image policy names are fetched with it, and not many of them."""

import pytest

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.agent.jobs.policy_keys import MAX_POLICY_KEYS, resources_of_policies
from ccinit.errors import CcinitError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import ResourceUri
from tests.unit.ccinit.formats.signature.image_policy_cases import policy

URIS = [f"kbs:///default/keys/{number}" for number in range(MAX_POLICY_KEYS + 1)]


def ask(*bodies: bytes, is_policy: bool = True) -> list[str]:
    wanted = [
        Wanted(uri=ResourceUri("a", "b", str(n)), kind=EnvelopeKind.FILE, is_policy=is_policy)
        for n in range(len(bodies))
    ]
    uri = ResourceUri("a", "b", "c")
    released = [Released(uri=uri, data=body, create=False) for body in bodies]
    return [str(uri) for uri in resources_of_policies(wanted, released)]


def naming(*uris: str) -> bytes:
    requirements: list[dict[str, object]] = [
        {"type": "sigstoreSigned", "keyPath": uri} for uri in uris
    ]
    return policy(*requirements)


def test_keys_that_policies_name_are_wanted_once() -> None:
    assert ask(naming(URIS[0], URIS[1]), naming(URIS[1])) == URIS[:2]
    assert ask(naming(URIS[0]), is_policy=False) == []


def test_policy_that_is_none_ends_the_attestation() -> None:
    with pytest.raises(CcinitError) as refused:
        ask(b"{}")
    assert refused.value.reason == "policy.default"


def test_more_keys_than_anybody_needs_are_refused() -> None:
    bodies = [naming(*URIS[start : start + 11]) for start in range(0, len(URIS), 11)]
    with pytest.raises(CcinitError) as refused:
        ask(*bodies)
    assert refused.value.reason == "policy.keys"
    assert len(ask(*bodies[:2])) == 22
