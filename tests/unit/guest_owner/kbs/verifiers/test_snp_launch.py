"""What a launch may say about itself, signed or not, and what a token may leave out."""

import pytest

from guest_owner.kbs.appraisal import Claim, ClaimList
from guest_owner.kbs.references.requirements import IdBlock
from guest_owner.kbs.verifiers.snp_launch import check_id_key, check_signed_values

NONE, OURS, THEIRS = bytes(48), b"k" * 48, b"j" * 48
BLOCK = IdBlock(keys=frozenset((OURS,)), guest_svn=3)


@pytest.mark.parametrize(
    ("digest", "block", "holds", "signed"),
    [
        (NONE, IdBlock(), True, False),
        (OURS, IdBlock(), False, True),
        (NONE, BLOCK, True, False),
        (OURS, BLOCK, True, True),
        (THEIRS, BLOCK, False, True),
        (None, IdBlock(), False, False),
        (None, BLOCK, False, False),
    ],
)
def test_launch_is_unsigned_or_by_a_known_key(
    digest: bytes | None,
    block: IdBlock,
    holds: bool,  # noqa: FBT001
    signed: bool,  # noqa: FBT001
) -> None:
    claims = ClaimList()
    assert check_id_key(digest, block, claims) == signed
    (claim,) = claims.made
    assert (claim.name, claim.holds) == ("snp.id_key", holds)


def launch(
    *,
    signed: bool,
    family_id: bytes | None = bytes(16),
    image_id: bytes | None = bytes(16),
    guest_svn: int | None = 0,
) -> dict[str, Claim]:
    claims = ClaimList()
    check_signed_values(
        BLOCK, claims, signed=signed, family_id=family_id, image_id=image_id, guest_svn=guest_svn
    )
    return {claim.name.removeprefix("snp."): claim for claim in claims.made}


def failing(claims: dict[str, Claim]) -> list[str]:
    return [name for name, claim in claims.items() if not claim.holds]


def test_unsigned_launch_says_nothing_of_itself() -> None:
    assert failing(launch(signed=False)) == []
    assert failing(launch(signed=False, family_id=b"f" * 16)) == ["family_id"]
    assert failing(launch(signed=False, image_id=b"i" * 16)) == ["image_id"]
    assert failing(launch(signed=False, guest_svn=3)) == ["guest_svn"]


def test_signed_launch_has_any_name_and_at_least_the_owners_version() -> None:
    names = {"family_id": b"f" * 16, "image_id": b"i" * 16}
    assert failing(launch(signed=True, guest_svn=3, **names)) == []
    assert failing(launch(signed=True, guest_svn=4)) == []
    assert failing(launch(signed=True, guest_svn=2, **names)) == ["guest_svn"]


@pytest.mark.parametrize("signed", [True, False])
def test_value_that_is_not_shown_holds_nowhere(
    signed: bool,  # noqa: FBT001
) -> None:
    claims = launch(signed=signed, family_id=None, image_id=None, guest_svn=None)
    assert failing(claims) == ["family_id", "image_id", "guest_svn"]
    assert {claim.got for claim in claims.values()} == {"not shown"}


def test_claim_says_what_would_have_held() -> None:
    for signed, name, svn in ((True, "of a signed launch", "at least 3"), (False, "zero", "0")):
        claims = launch(signed=signed)
        assert {claims[key].expected for key in ("family_id", "image_id")} == {name}
        assert claims["guest_svn"].expected == svn
