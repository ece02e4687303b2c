"""The boundary that is measured before debug opens: once, and never crossed again."""

from pathlib import Path

import pytest

from ccinit.agent.jobs.messages.measurement import ExtendRequest
from ccinit.agent.platform.measurement import debug_opens
from ccinit.attest.detect import Node
from ccinit.errors import VerificationError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.tcg.event_log import Algorithm
from tests.fakes.machine.no_waiting import finish
from tests.unit.ccinit.agent.platform.measurement_bench import PULLED, Bench, records_of

OPENS = debug_opens(
    DebugGrant(
        evidence_key=b"\x01" * 32,
        expires_s=1_800_000_000,
        tools_root=RootHash(b"\x02" * 32),
        keep_pod=False,
    )
)


def of_boundary(bench: Bench, deaths: tuple[str, ...] = ()) -> ExtendRequest:
    """Measure that debug opens; return the last request."""
    bench.children.deaths = list(deaths)
    finish(bench.measurement.measure_debug(OPENS))
    return bench.children.requests[-1]


@pytest.fixture(params=[Tee.TPM, Tee.SVSM])
def tpm(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    node = tmp_path / "tpmrm0"
    node.write_bytes(b"")
    return Bench(Node(name="register", path=str(node), writable=True), request.param)


def test_debug_boundary_of_a_tpm_is_a_register_of_its_own(tpm: Bench) -> None:
    request = of_boundary(tpm)
    assert request.boundary
    assert request.digests == (OPENS.digest(Algorithm.SHA256),)
    value = Algorithm.SHA256.hash(bytes(32) + request.digests[0])
    assert (tpm.children.boundary.value, tpm.children.register.extends) == (value, 0)
    assert records_of(tpm) == b""
    assert tpm.sealed == [f"event for PCR 15: {OPENS}", f"PCR 15 holds {value.hex()}"]
    assert str(OPENS) == (
        f'ccinit OpenDebug {{"evidence_key":"{"01" * 32}","expires_s":"1800000000",'
        f'"keep_pod":"false","tools_root":"{"02" * 32}"}}'
    )


@pytest.mark.parametrize("death", ["before", "after"])
def test_debug_boundary_is_measured_once_whoever_dies(tpm: Bench, death: str) -> None:
    of_boundary(tpm, (death,))
    assert tpm.children.boundary.extends == 1


def test_debug_boundary_that_was_used_is_not_crossed_again(tpm: Bench) -> None:
    tpm.children.boundary.extend(bytes(32))
    with pytest.raises(VerificationError) as caught:
        finish(tpm.measurement.measure_debug(OPENS))
    assert caught.value.reason == "event_log.register"
    assert tpm.children.boundary.extends == 1


def test_debug_boundary_is_not_believed_of_a_child_that_has_not_crossed_it(
    tpm: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.ccinit.agent.platform.measurement_bench.extend_register", said)
    with pytest.raises(VerificationError) as caught:
        finish(tpm.measurement.measure_debug(OPENS))
    assert caught.value.reason == "event_log.register"
    assert caught.value.detail == f"PCR 15: {'00' * 32}"
    assert tpm.sealed == [f"event for PCR 15: {OPENS}"]


def said(*_: object) -> bytes:
    return bytes(32)


def test_debug_boundary_of_a_td_is_an_event_among_the_others(bench: Bench) -> None:
    bench.measurement.note(PULLED)
    bench.measure()
    request = of_boundary(bench)
    assert (request.boundary, bench.children.boundary.extends) == (False, 0)
    assert records_of(bench).count(b"OpenDebug") == 1
    assert bench.measurement.has_register


def test_debug_boundary_without_a_register_is_in_the_sealed_log() -> None:
    bench = Bench(None, Tee.SNP)
    finish(bench.measurement.measure_debug(OPENS))
    assert bench.sealed == [f"event, no register to measure it into: {OPENS}"]
    assert not bench.measurement.has_register
