"""Evidence of a vTPM: consistent, or not at all."""

import hashlib
from typing import Any

import pytest

from ccinit.attest.tpm import TpmAttester
from ccinit.errors import FormatError, PeerError, VerificationError
from ccinit.formats.evidence.tee import ReportData
from ccinit.formats.evidence.tpm import parse_tpm_evidence
from ccinit.formats.tcg.tpm2 import parse_tpms_attest
from tests.fakes.platforms.tpm_device import AK_ATTRIBUTES, SimulatedDevice, SimulatedTpm
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key

REPORT_DATA = ReportData(bytes(range(32)))


@pytest.fixture
def tpm() -> SimulatedTpm:
    return SimulatedTpm(tpm=FakeTpm(key=rsa_key(0)))


def test_evidence_covers_the_registers_and_names_the_key(tpm: SimulatedTpm) -> None:
    tpm.tpm.pcrs[4] = b"\x04" * 32
    result = TpmAttester(SimulatedDevice(tpm)).collect_evidence(REPORT_DATA)
    evidence = parse_tpm_evidence(result)
    attest = parse_tpms_attest(evidence.message)
    assert evidence.ak_public_der == tpm.tpm.public_der
    assert evidence.pcrs == tuple(tpm.tpm.pcrs)
    assert attest.pcr_digest == hashlib.sha256(b"".join(evidence.pcrs)).digest()
    assert attest.extra_data == REPORT_DATA


def test_registers_that_change_in_between_are_read_again(tpm: SimulatedTpm) -> None:
    changes = [b"\x01" * 32, b"\x02" * 32]

    def change() -> None:
        if changes:
            tpm.tpm.pcrs[10] = changes.pop()

    tpm.before_quote = change
    value = TpmAttester(SimulatedDevice(tpm)).collect_evidence(REPORT_DATA)
    assert parse_tpm_evidence(value).pcrs[10] == b"\x01" * 32
    assert tpm.commands.count(0x158) == 3


def test_registers_that_never_rest_are_given_up(tpm: SimulatedTpm) -> None:
    def change() -> None:
        tpm.tpm.pcrs[10] = hashlib.sha256(tpm.tpm.pcrs[10]).digest()

    tpm.before_quote = change
    with pytest.raises(PeerError) as refused:
        TpmAttester(SimulatedDevice(tpm)).collect_evidence(REPORT_DATA)
    assert refused.value.reason == "attest.unstable"
    assert tpm.commands.count(0x158) == 8


@pytest.mark.parametrize("bit", [1, 16, 18], ids=["fixedTPM", "restricted", "sign"])
def test_key_without_an_attribute_is_refused_unquoted(tpm: SimulatedTpm, bit: int) -> None:
    tpm.attributes = AK_ATTRIBUTES & ~(1 << bit)
    with pytest.raises(VerificationError) as refused:
        TpmAttester(SimulatedDevice(tpm)).collect_evidence(REPORT_DATA)
    assert refused.value.reason == "attest.key"
    assert 0x158 not in tpm.commands


def test_quote_over_other_data_is_refused(
    tpm: SimulatedTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote = tpm.tpm.quote
    monkeypatch.setattr(tpm.tpm, "quote", lambda _data: quote(bytes(32)))
    with pytest.raises(PeerError) as refused:
        TpmAttester(SimulatedDevice(tpm)).collect_evidence(REPORT_DATA)
    assert refused.value.reason == "attest.quote"


def test_absent_key_is_the_tpms_refusal(tpm: SimulatedTpm) -> None:
    with pytest.raises(PeerError) as refused:
        TpmAttester(SimulatedDevice(tpm), ak_handle=0x81010003).collect_evidence(REPORT_DATA)
    assert refused.value.reason == "tpm.refused"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        pytest.param({"selected": bytes(3)}, "attest.quote", id="no register"),
        pytest.param({"selected": b""}, "attest.quote", id="no mask"),
        pytest.param({"selected": b"\xff\xff\x00"}, "attest.quote", id="fewer registers"),
        pytest.param({"bank": 0x0004}, "tpm2.bank", id="sha1 bank"),
    ],
)
def test_r98_quote_over_other_registers_is_refused(
    tpm: SimulatedTpm, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], reason: str
) -> None:
    attester = TpmAttester(SimulatedDevice(tpm))
    attester.collect_evidence(REPORT_DATA)
    quote = tpm.tpm.quote
    monkeypatch.setattr(tpm.tpm, "quote", lambda data: quote(data, **wrong))
    with pytest.raises((PeerError, FormatError)) as refused:
        attester.collect_evidence(REPORT_DATA)
    assert refused.value.reason == reason
