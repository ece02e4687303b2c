"""What released resources have to pass before use, and what has to be fetched because of them."""

from collections.abc import Sequence

from ccinit.agent.jobs.messages.kbs import Released, Wanted
from ccinit.attest.sealed_secret import verify_sealed_secret
from ccinit.errors import LimitExceededError
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.signature.image_policy import parse_image_policy

MAX_POLICY_KEYS = 32


def verify_released(wanted: Sequence[Wanted], released: Sequence[Released]) -> tuple[Wanted, ...]:
    """Verify the names among `wanted`; return the keys that image policies name, each once.

    A name that comes from a sealed secret needs the signature of a key among `released`. A policy
    can name keys and roots, which are resources of their own, instead of containing them.

    Raises:
        FormatError, VerificationError: `sealed_secret.…`; `policy.…`.
        LimitExceededError: `policy.keys`.
    """
    data = {one.uri: one.data for one in released}
    for one in wanted:
        for sealed in one.sealed:
            verify_sealed_secret(sealed, data[sealed.key])
    named = dict.fromkeys(
        uri
        for one, resource in zip(wanted, released, strict=True)
        if one.is_policy
        for uri in parse_image_policy(resource.data).resources()
    )
    if len(named) > MAX_POLICY_KEYS:
        raise LimitExceededError("policy.keys", f"more than {MAX_POLICY_KEYS} resources")
    return tuple(Wanted(uri=uri, kind=EnvelopeKind.FILE) for uri in named)
