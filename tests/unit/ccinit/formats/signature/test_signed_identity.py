"""Which name a signature must give: containers-policy.json(5), also for what no pod names.

References of a pod have a digest and no tag; what a policy says of others has to be right, too.
"""

import pytest

from ccinit.errors import VerificationError
from ccinit.formats.oci.docker_reference import parse_docker_reference
from ccinit.formats.signature.signed_identity import (
    ExactReference,
    ExactRepository,
    MatchDigest,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
    SignedIdentity,
    verify_identity,
)

NAME = "r.example/team/app"
DIGEST = f"@sha256:{'1' * 64}"
OTHER = f"@sha256:{'2' * 64}"
REMAP = RemapIdentity(prefix="r.example/team", signed_prefix="dev.example")
V1 = ExactReference(reference=parse_docker_reference(f"{NAME}:v1", "test"))


@pytest.mark.parametrize(
    ("wanted", "pulled", "claimed"),
    [
        (MatchExact(), f"{NAME}{DIGEST}", f"{NAME}{DIGEST}"),
        (MatchExact(), f"{NAME}:v1", f"{NAME}:v1"),
        (MatchRepoDigestOrExact(), f"{NAME}{DIGEST}", f"{NAME}:v1"),
        (MatchRepoDigestOrExact(), f"{NAME}{DIGEST}", f"{NAME}{OTHER}"),
        (MatchRepoDigestOrExact(), f"{NAME}:v1", f"{NAME}:v1"),
        (MatchRepoDigestOrExact(), f"{NAME}:v1{DIGEST}", f"{NAME}:v1{DIGEST}"),
        (MatchRepository(), f"{NAME}{DIGEST}", NAME),
        (V1, f"r.example/x{DIGEST}", f"{NAME}:v1"),
        (ExactRepository(name=NAME), f"r.example/x{DIGEST}", NAME),
        (REMAP, f"{NAME}{DIGEST}", "dev.example/app:v1"),
        (REMAP, f"r.example/teams/app{DIGEST}", "r.example/teams/app:v1"),
        (REMAP, f"r.example/x{DIGEST}", "r.example/x:v1"),
        (MatchDigest(), f"{NAME}{DIGEST}", None),
        (MatchDigest(), f"{NAME}{DIGEST}", "r.example/x"),
    ],
)
def test_name_that_the_policy_wants_is_accepted(
    wanted: SignedIdentity, pulled: str, claimed: str | None
) -> None:
    verify_identity(wanted, parse_docker_reference(pulled, "test"), claimed)


@pytest.mark.parametrize(
    ("wanted", "pulled", "claimed"),
    [
        (MatchExact(), f"{NAME}{DIGEST}", f"{NAME}{OTHER}"),
        (MatchExact(), f"{NAME}{DIGEST}", f"{NAME}:v1"),
        (MatchExact(), NAME, NAME),
        (MatchRepoDigestOrExact(), f"{NAME}{DIGEST}", NAME),
        (MatchRepoDigestOrExact(), f"{NAME}{DIGEST}", "r.example/team/application:v1"),
        (MatchRepoDigestOrExact(), f"{NAME}:v1", f"{NAME}:v2"),
        (MatchRepoDigestOrExact(), f"{NAME}:v1{DIGEST}", f"{NAME}:v2"),
        (MatchRepoDigestOrExact(), f"{NAME}:v1{DIGEST}", f"{NAME}:v1"),
        (MatchRepoDigestOrExact(), NAME, f"{NAME}:v1"),
        (MatchRepository(), f"{NAME}{DIGEST}", "r.example/team"),
        (V1, f"{NAME}{DIGEST}", f"{NAME}:v2"),
        (ExactRepository(name=NAME), f"{NAME}{DIGEST}", "r.example/x:v1"),
        (REMAP, f"{NAME}{DIGEST}", f"{NAME}:v1"),
        (REMAP, f"r.example/teams/app{DIGEST}", "dev.examples/app:v1"),
        (MatchRepository(), f"{NAME}{DIGEST}", None),
        (MatchRepository(), f"{NAME}{DIGEST}", ""),
        (MatchRepository(), f"{NAME}{DIGEST}", f"https://{NAME}"),
    ],
)
def test_another_name_is_refused(wanted: SignedIdentity, pulled: str, claimed: str | None) -> None:
    with pytest.raises(VerificationError) as refused:
        verify_identity(wanted, parse_docker_reference(pulled, "test"), claimed)
    assert refused.value.reason == "signature.identity"
