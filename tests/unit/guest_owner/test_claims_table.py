"""A table of claims stays one that a terminal can show, however many pods are registered."""

import pytest

from guest_owner.claims_table import format_claims
from guest_owner.kbs.appraisal import Claim, list_known

DIGESTS = tuple(f"sha256:{number:064x}" for number in range(20))
KNOWN = tuple(f"{digest} (pod-{number})" for number, digest in enumerate(DIGESTS))


def row(known: tuple[str, ...], got: str) -> str:
    claim = Claim(name="initdata.digest", expected=list_known(known), got=got, holds=False)
    return format_claims((claim,)).splitlines()[-1]


@pytest.mark.parametrize(
    ("count", "got", "expected"),
    [
        pytest.param(1, DIGESTS[0], KNOWN[0], id="one"),
        pytest.param(2, DIGESTS[9], f"one of {KNOWN[0]}, {KNOWN[1]}", id="two"),
        pytest.param(20, DIGESTS[7], f"{KNOWN[7]}, one of 20", id="many, and it is one of them"),
        pytest.param(
            20,
            "sha256:ff",
            "one of 20: pod-0, pod-1, pod-2, pod-3, pod-4, pod-5, pod-6, pod-7,…",
            id="many, and it is none",
        ),
    ],
)
def test_expected_is_as_long_as_it_helps(count: int, got: str, expected: str) -> None:
    words = row(KNOWN[:count], got)
    assert words.startswith(f"initdata.digest  {expected}  ")
    assert len(words) < 280
