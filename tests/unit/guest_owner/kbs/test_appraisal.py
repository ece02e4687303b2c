"""How an appraisal ends: with what was found and nothing against it, or not at all."""

import pytest

from guest_owner.kbs.appraisal import ClaimList, EvidenceRefusedError, list_known
from guest_owner.kbs.references.values import ReferenceSet, RegisteredInitdata
from tests.unit.guest_owner.kbs.values import initdata, reference_set

IMAGE, DOCUMENT = reference_set(), initdata()


def holding(*names: str) -> ClaimList:
    claims = ClaimList()
    for name in names:
        claims.compare_bytes(name, b"1", b"1")
    return claims


def test_appraisal_without_a_failing_claim_returns_what_was_found() -> None:
    claims = holding("pcr.4", "pcr.9")
    assert claims.settle(IMAGE, DOCUMENT, authentic=True) == (IMAGE, DOCUMENT)


@pytest.mark.parametrize("authentic", [True, False])
def test_appraisal_is_refused_for_its_first_failing_claim(*, authentic: bool) -> None:
    claims = holding("pcr.4")
    claims.compare_bytes("pcr.9", b"1", b"2")
    claims.compare_bytes("pcr.11", b"1", b"3")
    with pytest.raises(EvidenceRefusedError, match=r"evidence refused: pcr.9, pcr.11") as refused:
        claims.settle(IMAGE, DOCUMENT, authentic=authentic)
    assert (refused.value.reason, refused.value.authentic) == ("pcr.9", authentic)
    assert refused.value.claims == tuple(claims.made)


@pytest.mark.parametrize(("reference", "document"), [(None, DOCUMENT), (IMAGE, None), (None, None)])
def test_nothing_found_is_never_a_result(
    reference: ReferenceSet | None, document: RegisteredInitdata | None
) -> None:
    claims = holding("pcr.4")
    with pytest.raises(RuntimeError, match="finds nothing"):
        claims.settle(reference, document, authentic=True)
    claims.compare_bytes("initdata.digest", b"1", b"2")
    with pytest.raises(EvidenceRefusedError) as refused:
        claims.settle(reference, document, authentic=True)
    assert refused.value.reason == "initdata.digest"


def test_claim_names_all_that_would_have_been_accepted() -> None:
    assert list_known(()) == "nothing is registered"
    assert list_known(("a",)) == "a"
    assert list_known(("a", "b")) == "one of a, b"
