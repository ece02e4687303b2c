"""docs/platforms.md, held against the tables that it speaks of."""

from pathlib import Path

import pytest

from ccinit.agent.jobs.evidence import ATTESTERS
from ccinit.attest.detect import TABLE, Row
from ccinit.formats.evidence.tee import (
    Binding,
    Tee,
    evidence_needs_network,
    evidence_needs_request,
    initdata_binding,
    is_judged_at_launch,
)
from ccinit.measure.register import EVENT_REGISTERS
from guest_owner.kbs.verifiers.table import VERIFIERS

DOCUMENT = (Path(__file__).parents[2] / "docs/platforms.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for cells in (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.splitlines()
        if line.startswith("| `")
    )
}
# What users of confidential guests ask for, and the row of detection that answers it.
WANTED = {
    "snp": "snp",
    "tdx": "tdx",
    "tpm": "tpm",
    "az-snp-vtpm": "tpm",
    "az-tdx-vtpm": "tpm",
    "cca": "cca",
    "svsm": "svsm",
    "se": "se",
    "sev": "sev",
    "sev-es": "sev",
    "pef": "pef",
}
# The table is of production images; `sample` is in those of the `test` profile alone.
ATTESTED = frozenset(ATTESTERS) - {Tee.SAMPLE}
JUDGED_AT_LAUNCH = frozenset(filter(is_judged_at_launch, Tee))
REFUSED = [row for row in TABLE if row.tee is None]


@pytest.mark.parametrize(("platform", "name"), WANTED.items())
def test_every_platform_of_the_field_is_told_and_answered(platform: str, name: str) -> None:
    (row,) = (row for row in TABLE if row.name == name)
    assert row.paths or row.flag
    if row.tee is None:
        assert row.refusal
        assert platform in DOCUMENT
    else:
        assert row.ways
        tee = Tee(platform.removesuffix("-es"))  # which of the two is for the owner's policy
        assert tee in (row.tee, *row.asked)
        assert tee in ATTESTED | JUDGED_AT_LAUNCH


def test_platforms_have_an_attester_or_a_judged_launch() -> None:
    assert not ATTESTED & JUDGED_AT_LAUNCH
    assert {Tee.SEV} == JUDGED_AT_LAUNCH


def test_document_has_every_platform_and_no_others() -> None:
    served = {tee.value for tee in ATTESTED | JUDGED_AT_LAUNCH}
    assert set(ROWS) == served | {row.name for row in REFUSED}


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_document_gives_the_reason_of_a_refusal(row: Row) -> None:
    assert ROWS[row.name] == ["", "", "", "", row.refusal]


@pytest.mark.parametrize("tee", sorted(ATTESTED | JUDGED_AT_LAUNCH))
def test_document_says_what_is_done(tee: Tee) -> None:
    source, initdata, events, verifier, refusal = ROWS[tee]
    how = {
        Binding.EXTENDED: "extended",
        Binding.COMPARED: "compared",
        Binding.STATED: "stated",
    }
    assert initdata.endswith(how[initdata_binding(tee).binding])
    register = EVENT_REGISTERS.get(tee)
    assert events.startswith("sealed log only" if register is None else register.name)
    assert ("ours" in verifier) == (tee in VERIFIERS)
    assert ("before the launch" in verifier) == (tee in JUDGED_AT_LAUNCH)
    assert ("metadata service" in source) == evidence_needs_network(tee)
    assert ("request" in source) == evidence_needs_request(tee)
    assert not refusal
