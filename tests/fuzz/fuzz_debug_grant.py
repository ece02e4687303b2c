"""Invariant: any bytes given as a debug grant are a value or a refusal of that format; what is
accepted is written as the same value again, opens the session whose key it names and no other, and
nothing before its day or after its end.

Run as `python -m tests.fuzz.fuzz_debug_grant [SECONDS [SEED]]`.
"""

import json
import random

from ccinit.attest.tee_key import generate_tee_key
from ccinit.errors import FormatError, LimitExceededError, VerificationError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import (
    MAX_GRANT_SECONDS,
    DebugGrant,
    encode_debug_grant,
    parse_debug_grant,
    verify_debug_grant,
)
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from tests.fuzz.mutation import mutate_text
from tests.fuzz.trials import Trials, run

KEY, OTHER = (generate_tee_key(TeeKeyAlgorithm.P256).public_jwk for _ in range(2))
GRANT = DebugGrant(
    evidence_key=KEY.thumbprint(),
    expires_s=1_800_000_000,
    tools_root=RootHash(b"\xab" * 32),
    keep_pod=False,
)
SEED = encode_debug_grant(GRANT)
PIECES = (
    b"true",
    b"false",
    b"null",
    b"0",
    b"-1",
    b"1e9",
    b'"',
    b"{",
    b"}",
    b"[]",
    b",",
    b"\\u0000",
)


def parse_or_refuse(data: bytes) -> DebugGrant | None:
    """Return the grant, or None for a refusal of the right family."""
    try:
        return parse_debug_grant(data)
    except (FormatError, LimitExceededError) as error:
        refused = error
    assert refused.reason.startswith("debug.grant."), refused
    return None


def is_verified(data: bytes, key: object, now_s: int) -> bool:
    """Whether the grant opens that session at that time."""
    try:
        verify_debug_grant(data, key, now_s)  # type: ignore[arg-type]
    except VerificationError as error:
        assert error.reason in {"debug.evidence_key", "debug.expired", "debug.too_long"}  # noqa: PT017
        return False
    return True


def mutate(source: random.Random) -> bytes:
    """Change members, or bytes."""
    if source.randrange(2):
        value = json.loads(SEED)
        name = source.choice(tuple(value))
        other: object = source.choice((0, 1, -1, 2**53, 1.5, "", "ab" * 32, True, None, [], {}))
        changed = {name: other} if source.randrange(3) else {f"{name}x": other}
        return json.dumps(value | changed).encode()
    return mutate_text(source, SEED, PIECES)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    assert is_verified(SEED, KEY, GRANT.expires_s - 1)
    trials = Trials(seconds, seed)
    for source in trials:
        data = mutate(source)
        grant = parse_or_refuse(data)
        if grant is None:
            continue
        assert parse_or_refuse(encode_debug_grant(grant)) == grant
        now_s = grant.expires_s - source.randrange(1, MAX_GRANT_SECONDS + 1)
        assert is_verified(data, KEY, now_s) == (grant.evidence_key == KEY.thumbprint())
        for key, when in (
            (OTHER, now_s),
            (KEY, grant.expires_s),
            (KEY, grant.expires_s - MAX_GRANT_SECONDS - 1),
        ):
            assert not is_verified(data, key, when)
    return trials.count


if __name__ == "__main__":
    run(main)
