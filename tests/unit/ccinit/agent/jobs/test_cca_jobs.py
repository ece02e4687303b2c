"""Evidence and binding of a realm, through configfs-tsm."""

import hashlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import pytest

from ccinit.agent.jobs import evidence, measure
from ccinit.agent.jobs.messages.evidence import EvidenceRequest
from ccinit.agent.jobs.messages.measurement import BindRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.errors import CcinitError
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData, Tee
from ccinit.kernel import tsm
from ccinit.kernel.tsm import open_report_entry
from tests.fakes.platforms.cca import FakeRealm
from tests.fakes.platforms.configfs_tsm import DIRECTORY, FakeConfigfs

REPORT_DATA = ReportData(bytes(range(64)))
REQUEST = EvidenceRequest(tee=Tee.CCA, report_data=REPORT_DATA)
DIGEST = hashlib.sha384(b"document").digest()


@pytest.fixture
def configfs(monkeypatch: pytest.MonkeyPatch) -> FakeConfigfs:
    realm = FakeRealm(personalization=DIGEST.ljust(64, b"\0"))
    fake = FakeConfigfs(
        make_report=lambda inblob, _level: (realm.token(inblob), b""),
        provider="arm_cca_guest",
        floor=None,
        has_auxblob=False,
    )
    monkeypatch.setattr(tsm, "os", fake)
    return fake


def channel(fds: Mapping[str, int]) -> JobChannel:
    return cast("JobChannel", SimpleNamespace(fds=fds))


def collect(report_data: ReportData) -> object:
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        attester = evidence.ATTESTERS[Tee.CCA](channel(fds), REQUEST)
        return attester.collect_evidence(report_data)


def bind(digest: bytes) -> None:
    with open_report_entry(NO_REPORT_DATA, DIRECTORY) as fds:
        reply = measure.run(BindRequest(tee=Tee.CCA, digest=digest), channel(fds))
    assert reply.tee is Tee.CCA


def test_evidence_is_the_whole_token(configfs: FakeConfigfs) -> None:
    token, _aux = configfs.make_report(REPORT_DATA, 0)
    assert collect(REPORT_DATA) == {"token": list(token)}


def test_token_over_something_else_is_refused(configfs: FakeConfigfs) -> None:
    assert collect(REPORT_DATA)
    with pytest.raises(CcinitError) as refused:
        collect(ReportData(bytes(64)))
    assert refused.value.reason == "attest.report"


def test_report_of_another_driver_is_refused(configfs: FakeConfigfs) -> None:
    configfs.provider = "sev_guest"
    with pytest.raises(CcinitError) as refused:
        collect(REPORT_DATA)
    assert refused.value.reason == "tee.provider"


def test_r04_personalization_is_compared_with_the_digest(configfs: FakeConfigfs) -> None:
    bind(DIGEST)
    with pytest.raises(CcinitError) as refused:
        bind(b"e" * 48)
    assert refused.value.reason == "config.mismatch"
    unset = FakeRealm()
    configfs.make_report = lambda inblob, _level: (unset.token(inblob), b"")
    with pytest.raises(CcinitError) as refused:
        bind(DIGEST)
    assert refused.value.reason == "config.unbound"
