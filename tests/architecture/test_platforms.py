"""docs/platforms.md, held against the tables that it speaks of."""

from pathlib import Path

import pytest

from ccinit.agent.jobs.evidence import ATTESTERS
from ccinit.attest.detect import TABLE, Row
from ccinit.formats.tee import (
    Binding,
    Tee,
    evidence_needs_network,
    evidence_needs_request,
    initdata_binding,
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
REFUSED = [row for row in TABLE if row.tee is None]


@pytest.mark.parametrize(("platform", "name"), WANTED.items())
def test_every_platform_of_the_field_is_told_and_answered(platform: str, name: str) -> None:
    (row,) = (row for row in TABLE if row.name == name)
    assert row.paths or row.devices or row.flag or row.provider
    if row.tee is None:
        assert row.refusal
        assert platform in DOCUMENT
    else:
        assert Tee(platform) in (row.tee, *row.asked)
        assert Tee(platform) in ATTESTERS


def test_document_has_every_platform_and_no_others() -> None:
    assert set(ROWS) == {tee.value for tee in ATTESTED} | {row.name for row in REFUSED}


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_document_gives_the_reason_of_a_refusal(row: Row) -> None:
    assert ROWS[row.name] == ["", "", "", "", row.refusal]


@pytest.mark.parametrize("tee", sorted(ATTESTED))
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
    assert ("metadata service" in source) == evidence_needs_network(tee)
    assert ("request" in source) == evidence_needs_request(tee)
    assert not refusal
