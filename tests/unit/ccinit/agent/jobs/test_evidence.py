"""Every platform that can be detected has an Attester and a way to bind initdata."""

import errno
import runpy
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from ccinit.agent.jobs import evidence, measure
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.detect import TABLE, Row
from ccinit.attest.simulated.machine import SIMULATIONS
from ccinit.errors import CcinitError
from ccinit.formats.evidence.snp import parse_snp_evidence
from ccinit.formats.evidence.tee import (
    NO_REPORT_DATA,
    ReportData,
    Tee,
    initdata_binding,
    is_judged_at_launch,
)
from ccinit.kernel import tsm
from ccinit.kernel.tsm import TsmReport, open_report_entry
from ccinit.measure.register import EVENT_REGISTERS
from tests.fakes.platforms.configfs_tsm import DIRECTORY, FakeConfigfs
from tests.fakes.platforms.snp import FakeSnp

DETECTED = {row.tee for row in TABLE if row.tee} | {tee for row in TABLE for tee in row.asked}
ATTESTED = {tee for tee in DETECTED if not is_judged_at_launch(tee)}
REPORT_DATA = ReportData(bytes(range(64)))
REQUEST = EvidenceRequest(tee=Tee.SNP, report_data=REPORT_DATA)
DIGEST = b"d" * 32


def channel(fds: Mapping[str, int]) -> JobChannel:
    return cast("JobChannel", SimpleNamespace(fds=fds))


@pytest.fixture
def configfs(monkeypatch: pytest.MonkeyPatch) -> FakeConfigfs:
    snp = FakeSnp().with_fields(host_data=DIGEST)
    fake = FakeConfigfs(
        make_report=lambda inblob, level: (snp.report(inblob, level), snp.chain.table())
    )
    monkeypatch.setattr(tsm, "os", fake)
    monkeypatch.setattr("ccinit.kernel.tsm.time.sleep", lambda _seconds: None)
    return fake


def test_detected_platforms_have_an_attester_and_no_others() -> None:
    assert {Tee.TPM, Tee.SNP, Tee.TDX} <= DETECTED
    assert set(evidence.ATTESTERS) == ATTESTED | set(SIMULATIONS)


def test_detected_platforms_bind_initdata_and_no_others() -> None:
    assert set(measure.BINDERS) == DETECTED | set(SIMULATIONS)


def test_r19_root_without_stand_ins_has_the_detected_platforms_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ccinit.attest.simulated", None)
    assert set(runpy.run_path(evidence.__file__)["ATTESTERS"]) == ATTESTED
    assert set(runpy.run_path(measure.__file__)["BINDERS"]) == DETECTED


def test_platforms_whose_events_have_a_register_are_detected() -> None:
    assert set(EVENT_REGISTERS) <= DETECTED


@pytest.mark.parametrize("row", [row for row in TABLE if row.asked], ids=lambda row: row.name)
def test_platforms_that_look_the_same_are_bound_the_same_way(row: Row) -> None:
    """Or the digest that PID 1 made before it was told the name would be another."""
    assert row.tee is not None
    for tee in row.asked:
        assert initdata_binding(tee) == initdata_binding(row.tee)
        assert measure.BINDERS[tee] is measure.BINDERS[row.tee]


def test_snp_evidence_is_made_through_configfs(configfs: FakeConfigfs) -> None:
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        made = evidence.ATTESTERS[Tee.SNP](channel(fds), REQUEST).collect_evidence(REPORT_DATA)
    parsed = parse_snp_evidence(made)
    assert (parsed.report.report_data, parsed.report.vmpl) == (REPORT_DATA, 0)
    assert [entry.cert_type for entry in parsed.certificates] == ["VCEK"]


def test_snp_evidence_is_made_through_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    snp = FakeSnp()

    def ask(fd: int, report_data: bytes) -> TsmReport:
        assert fd == 7
        return TsmReport(outblob=snp.report(report_data), auxblob=snp.chain.table())

    monkeypatch.setattr(evidence, "get_extended_report", ask)
    attester = evidence.ATTESTERS[Tee.SNP](channel({"sev_guest": 7}), REQUEST)
    made = attester.collect_evidence(REPORT_DATA)
    assert parse_snp_evidence(made).report.report_data == REPORT_DATA


def test_vmpl_of_a_guest_under_an_svsm_is_its_own(configfs: FakeConfigfs) -> None:
    configfs.floor = 2
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        made = evidence.ATTESTERS[Tee.SNP](channel(fds), REQUEST).collect_evidence(REPORT_DATA)
    assert parse_snp_evidence(made).report.vmpl == 2


def test_r04_host_data_is_compared_with_the_digest(configfs: FakeConfigfs) -> None:
    def bind(digest: bytes) -> None:
        with open_report_entry(NO_REPORT_DATA, DIRECTORY) as fds:
            measure.BINDERS[Tee.SNP](fds, digest)

    bind(DIGEST)
    with pytest.raises(CcinitError) as refused:
        bind(b"e" * 32)
    assert refused.value.reason == "config.mismatch"
    unset = FakeSnp()
    configfs.make_report = lambda inblob, _level: (unset.report(inblob), b"")
    with pytest.raises(CcinitError) as refused:
        bind(DIGEST)
    assert refused.value.reason == "config.unbound"


def test_r17_device_that_fails_ends_the_job(configfs: FakeConfigfs) -> None:
    configfs.errors = [errno.EIO] * 10
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        attester = evidence.ATTESTERS[Tee.SNP](channel(fds), REQUEST)
        with pytest.raises(CcinitError) as refused:
            attester.collect_evidence(REPORT_DATA)
    assert refused.value.reason == "tee.io"
