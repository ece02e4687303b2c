import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.attest.simulated.machine import serial_number
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.qemu import Accelerator, Disk, EspBoot
from host_runtime.machine.swtpm import VirtualTpm
from host_runtime.programs.tools import Tools
from tests.chain.life import Life
from tests.demo.attacks import Attack, Record, Where, judge, records_of

KEY = b"public key"
DOCUMENT = b"what the guest was given"
PCR9 = "99" * 32


@pytest.fixture
def config(tmp_path: Path) -> GuestConfig:
    (tmp_path / "ak.der").write_bytes(KEY)
    (tmp_path / "initdata.toml").write_bytes(DOCUMENT)
    return GuestConfig(
        tools=Tools(),
        folder=tmp_path / "guest",
        boot=EspBoot(image=tmp_path / "esp"),
        accelerator=Accelerator.TCG,
        disks=(Disk(path=tmp_path / "initdata.img", serial="initdata", is_read_only=True),),
        tpm=VirtualTpm(folder=tmp_path),
    )


def make_attack(config: GuestConfig, where: Where = Where.VERIFIER) -> Attack:
    failing = {"pcr.9": PCR9} if where is Where.VERIFIER else {}
    return Attack(party="host x", what="x", where=where, config=config, failing=failing)


def make_life(*phases: tuple[Phase, Code], hello: bool = True) -> Life:
    return Life(
        hello_ms=1.0 if hello else None,
        seen=[(float(index), *one) for index, one in enumerate(phases)],
        end=EndReason.RESET,
    )


def refused(got: str = PCR9, key: bytes = KEY) -> Record:
    fingerprint = f"sha256:{hashlib.sha256(key).hexdigest()}"
    return {
        "event": "attest",
        "session": "s1",
        "decision": "refused",
        "claims": [
            {"name": "ak.unregistered", "expected": "", "got": fingerprint, "holds": True},
            {"name": "pcr.4", "expected": "", "got": "", "holds": True},
            {"name": "pcr.9", "expected": "", "got": got, "holds": False},
        ],
    }


ATTESTED = make_life((Phase.ATTEST, Code.OK), (Phase.STOP, Code.REFUSED))


def test_attack_that_the_verifier_refuses_as_expected_is_refused(config: GuestConfig) -> None:
    outcome = judge(make_attack(config), ATTESTED, [refused()])
    assert outcome.refused
    assert outcome.complaints == ()
    assert outcome.named == ("pcr.9",)
    assert outcome.code is Code.REFUSED


def test_refusal_with_another_register_is_a_complaint(config: GuestConfig) -> None:
    outcome = judge(make_attack(config), ATTESTED, [refused(got="00" * 32)])
    assert not outcome.refused
    assert "the audit log names" in outcome.complaints[0]


def test_refusal_of_another_vtpm_does_not_count(config: GuestConfig) -> None:
    outcome = judge(make_attack(config), ATTESTED, [refused(key=b"other")])
    assert not outcome.refused
    assert "one refusal was expected" in outcome.complaints[0]


def test_second_attempt_after_a_refusal_is_a_complaint(config: GuestConfig) -> None:
    again = {**refused(), "session": "s2"}
    outcome = judge(make_attack(config), ATTESTED, [refused(), again])
    assert "one refusal was expected" in outcome.complaints[0]


def test_release_to_an_attacker_is_counted(config: GuestConfig) -> None:
    release = {"event": "resource", "session": "s1", "decision": "released"}
    outcome = judge(make_attack(config), ATTESTED, [refused(), release])
    assert outcome.released == 1
    assert not outcome.refused


def test_guest_that_ends_before_attestation_is_a_complaint(config: GuestConfig) -> None:
    life = make_life((Phase.CONFIG, Code.OK), (Phase.STOP, Code.CONFIG))
    outcome = judge(make_attack(config), life, [])
    assert any("did not end in ATTEST" in complaint for complaint in outcome.complaints)


def test_guest_that_stops_itself_in_config_is_refused_with_its_code(config: GuestConfig) -> None:
    life = make_life((Phase.CONFIG, Code.OK), (Phase.STOP, Code.CONFIG))
    outcome = judge(make_attack(config, Where.CONFIG), life, [])
    assert outcome.refused
    assert outcome.code is Code.CONFIG


def test_guest_that_takes_a_forged_configuration_is_a_complaint(config: GuestConfig) -> None:
    life = make_life((Phase.CONFIG, Code.OK), (Phase.NET, Code.OK), (Phase.STOP, Code.REFUSED))
    complaints = judge(make_attack(config, Where.CONFIG), life, [refused()]).complaints
    assert [text[:10] for text in complaints] == ["it did not", "the host w", "the guest "]


@pytest.mark.parametrize(
    ("tee", "field", "claimed"),
    [
        (Tee.SNP, b"\xab" * 32, f"sha256:{'ab' * 32}"),
        (Tee.TDX, b"\xab" * 48, f"sha384:{'ab' * 48}"),
        (Tee.SAMPLE, b"", f"sha256:{hashlib.sha256(DOCUMENT).hexdigest()}"),
    ],
    ids=["snp", "tdx", "sample"],
)
def test_guest_without_a_vtpm_is_known_by_its_document(
    config: GuestConfig, tee: Tee, field: bytes, claimed: str
) -> None:
    simulated = replace(config, tpm=None, serial_number=serial_number(tee, field))
    claim = {"name": "initdata.digest", "expected": "", "got": claimed}
    mine = {**refused(), "claims": [{**claim, "holds": False}]}
    other = {**mine, "session": "s2", "claims": [{**claim, "got": "sha256:00", "holds": False}]}
    assert list(records_of(simulated, [mine, other])) == [mine]


def test_guest_that_stops_itself_in_stage0_is_refused_without_a_code(config: GuestConfig) -> None:
    outcome = judge(make_attack(config, Where.STAGE0), make_life(hello=False), [])
    assert outcome.refused
    assert outcome.code is None


def test_guest_that_leaves_stage0_is_a_complaint(config: GuestConfig) -> None:
    outcome = judge(make_attack(config, Where.STAGE0), ATTESTED, [refused()])
    assert outcome.complaints == ("the guest left stage 0 and said hello", "the guest attested")


def test_another_end_than_a_reset_is_a_complaint(config: GuestConfig) -> None:
    life = replace(make_life(hello=False), end=EndReason.PANIC)
    outcome = judge(make_attack(config, Where.STAGE0), life, [])
    assert outcome.complaints == ("the guest ended with guest-panic",)
