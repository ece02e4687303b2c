"""TDX in the jobs: evidence through configfs-tsm, and MRCONFIGID by the module's own report."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.agent.jobs import evidence, measure
from ccinit.errors import CcinitError
from ccinit.formats.evidence.tdx import parse_tdx_evidence
from ccinit.formats.evidence.tdx_quote import parse_tdx_quote
from ccinit.formats.evidence.tee import NO_REPORT_DATA, ReportData, Tee
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import Algorithm, encode_event, parse_event_log
from ccinit.kernel import tsm
from ccinit.kernel.tsm import open_report_entry
from tests.fakes.platforms.configfs_tsm import DIRECTORY, FakeConfigfs
from tests.fakes.platforms.tdx_boot import FakeBoot
from tests.fakes.platforms.tdx_device import td_report
from tests.fakes.platforms.tdx_quote import FakeTdx, measurement

REPORT_DATA = ReportData(bytes(range(64)))
DIGEST = measurement("document")
EVENT = AaelEvent(domain="ccinit", operation="StartContainer", content="{}")
EVENTS = encode_event(EVENT.to_logged_event(4, Algorithm.SHA384), Algorithm.SHA384)


@pytest.fixture
def domain() -> FakeTdx:
    return FakeTdx(mrconfigid=DIGEST)


@pytest.fixture
def configfs(monkeypatch: pytest.MonkeyPatch, domain: FakeTdx) -> FakeConfigfs:
    fake = FakeConfigfs(
        make_report=lambda inblob, _level: (domain.quote(inblob), b""),
        provider="tdx_guest",
        floor=None,
        has_auxblob=False,
    )
    monkeypatch.setattr(tsm, "os", fake)
    monkeypatch.setattr("ccinit.kernel.tsm.time.sleep", lambda _seconds: None)
    return fake


@pytest.fixture
def ccel(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "CCEL"
    path.write_bytes(FakeBoot().log + bytes(50_000))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_evidence_is_made_through_configfs_with_both_logs(
    configfs: FakeConfigfs, ccel: int
) -> None:
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        attester = evidence.tdx_attester({**fds, "ccel": ccel}, EVENTS)
        made = parse_tdx_evidence(attester.collect_evidence(REPORT_DATA))
    assert parse_tdx_quote(made.quote).body.report_data == REPORT_DATA
    assert made.event_log is not None
    log = parse_event_log(made.event_log, Algorithm.SHA384, end_marker=True)
    assert [event.register for event in log.events] == [
        *(event.register for event in FakeBoot().events),
        4,
    ]


def test_firmware_without_a_log_leaves_it_out(configfs: FakeConfigfs) -> None:
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        attester = evidence.tdx_attester(fds, b"")
        made = parse_tdx_evidence(attester.collect_evidence(REPORT_DATA))
    assert made.event_log is None


def test_r17_host_that_makes_no_quotes_ends_the_job(configfs: FakeConfigfs) -> None:
    configfs.errors = [errno.EIO] * 10
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        attester = evidence.tdx_attester(fds, b"")
        with pytest.raises(CcinitError) as refused:
            attester.collect_evidence(REPORT_DATA)
    assert refused.value.reason == "tee.io"


def test_r17_quote_that_is_cut_ends_the_job(configfs: FakeConfigfs, domain: FakeTdx) -> None:
    configfs.make_report = lambda inblob, _level: (domain.quote(inblob)[:1000], b"")
    with open_report_entry(REPORT_DATA, DIRECTORY) as fds:
        attester = evidence.tdx_attester(fds, b"")
        with pytest.raises(CcinitError) as refused:
            attester.collect_evidence(REPORT_DATA)
    assert refused.value.reason == "tdx_quote.truncated"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, domain: FakeTdx) -> None:
    def read_td_report(fd: int, report_data: bytes) -> bytes:
        assert (fd, report_data) == (7, NO_REPORT_DATA)
        return td_report(domain, report_data)

    monkeypatch.setattr(measure, "read_td_report", read_td_report)


def bind(digest: bytes) -> None:
    measure.BINDERS[Tee.TDX]({"tdx_guest": 7}, digest)


@pytest.mark.usefixtures("module")
def test_mrconfigid_that_is_the_digest_passes() -> None:
    bind(DIGEST)


def refused_reason(digest: bytes) -> str:
    with pytest.raises(CcinitError) as refused:
        bind(digest)
    return refused.value.reason


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "mrconfigid", [measurement("the host's document"), DIGEST[:32].ljust(48, b"\0")]
)
def test_r04_mrconfigid_of_another_document_ends_the_guest(
    domain: FakeTdx, mrconfigid: bytes
) -> None:
    domain.mrconfigid = mrconfigid
    assert refused_reason(DIGEST) == "config.mismatch"


@pytest.mark.usefixtures("module")
def test_r05_mrconfigid_that_nobody_set_ends_the_guest(domain: FakeTdx) -> None:
    domain.mrconfigid = bytes(48)
    assert refused_reason(DIGEST) == "config.unbound"
    assert refused_reason(bytes(48)) == "config.unbound"


@pytest.mark.usefixtures("module")
def test_r05_digest_of_a_wrong_length_ends_the_guest() -> None:
    assert refused_reason(DIGEST[:31]) == "config.digest"
