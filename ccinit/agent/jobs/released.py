"""What released resources have to pass before use, and what has to be fetched because of them."""

from collections.abc import Callable, Sequence

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.attest.sealed_secret import verify_sealed_secret
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.signature.image_policy import name_policy_keys, parse_named_policy


def verify_sealed_names(wanted: Sequence[Wanted], released: Sequence[Released]) -> None:
    """Verify each name that comes from a sealed secret, by a key among `released`.

    Raises:
        FormatError, VerificationError: `sealed_secret.…`.
    """
    data = {one.uri: one.data for one in released}
    for one in wanted:
        for sealed in one.sealed:
            verify_sealed_secret(sealed, data[sealed.key])


def release_policy_keys(
    wanted: Sequence[Wanted], released: Sequence[Released], release: Callable[[Wanted], Released]
) -> tuple[Released, ...]:
    """Return the keys and roots that image policies among `released` name, each once.

    What the pod asks for itself is there already. A launch's secret can be taken only once.

    Args:
        wanted: what the pod asks for.
        released: all of it, in the same order.
        release: gets one more resource.

    Raises:
        FormatError: `policy.…`; nothing was got. The detail names the policy that is wrong.
        CcinitError: what `release` raises.
    """
    policies = [
        parse_named_policy(resource.uri, resource.data)
        for one, resource in zip(wanted, released, strict=True)
        if one.is_policy
    ]
    named = name_policy_keys(policies, ((one.uri, one.kind) for one in wanted))
    there = {one.uri: one for one in released}
    return tuple(
        there[uri] if uri in there else release(Wanted(uri=uri, kind=EnvelopeKind.FILE))
        for uri in named
    )
