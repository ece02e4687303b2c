"""What was predicted is what a TPM quotes, for either carrier on either boot path, through OVMF.

The quote is the guest's own, in the first record of its sealed log, so no KBS is needed here; the
UKI with its root inside goes the whole way in `test_chain`. As these guests wait for a network that
never comes, their orderly stop is tested with them.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.cmdline import Carrier
from ccinit.formats.evidence.log_key import parse_log_evidence
from ccinit.formats.evidence.tpm import parse_tpm_evidence
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.sealed_log import SIGNING_KEY_BYTES
from guest_owner.commands.unseal import evidence_verifier
from guest_owner.kbs.references.values import (
    References,
    RegisteredKey,
    parse_reference_set,
    register_initdata,
)
from host_runtime.launch import launcher
from host_runtime.launch.guest import EndReason
from host_runtime.machine.qemu import MachineConfig, plan_command
from host_runtime.machine.swtpm import VirtualTpm
from measured_boot.platforms import Boot
from measured_boot.prediction import TpmPrediction, UkiBoot, predict
from measured_boot.published.reference_values import reference_values
from measured_boot.tpm.pcr import PREDICTED_REGISTERS, ZERO_PCR
from tests.fakes.documents.unsealed_log import Unsealed, unseal
from tests.faults.plugin import FaultSeen
from tests.vm.direct_boot import (
    BOOT_TEST_SECONDS,
    END_SECONDS,
    HELLO_SECONDS,
    IMAGES,
    ONE_END,
    DirectImage,
    PreparedInitdata,
    console_bytes,
    end_events,
    follow_to_the_end,
    guest_sinks,
    make_initdata,
    plan_guest,
    recorded_guest,
    wait_for_phase,
)
from tests.vm.measured_boots import make_boot

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]

PHASE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What an owner has registered, but for the image's values."""

    tpm: VirtualTpm
    initdata: PreparedInitdata

    def read(self, sealed: bytes, prediction: TpmPrediction) -> Unsealed:
        """Read a log as the owner of an image with these registers."""
        values = parse_reference_set(reference_values(prediction, "image").to_bytes())
        references = References(
            sets=(values,),
            attestation_keys=(RegisteredKey(name="ak", public_der=self.tpm.ak_public_der()),),
            initdata=(register_initdata("direct", self.initdata.document),),
        )
        judge = evidence_verifier(references)
        return unseal(sealed, self.initdata.log_key, verify_evidence=judge)


PASSED_BESIDE = (
    *("-smbios", "type=11,value=io.systemd.credential:passwd.plaintext-password.root=x"),
    *("-smbios", "type=11,value=io.systemd.credential:systemd.extra-unit.x=x"),
    *("-fw_cfg", "name=opt/io.systemd.credentials/ssh.authorized_keys.root,string=x"),
    *("-fw_cfg", "name=opt/ccinit/ccinit.toml,string=x"),
)


@pytest.fixture
def passed_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that passes the guest more than it asks for."""

    def plan(machine: MachineConfig) -> tuple[str, ...]:
        return (*plan_command(machine), *PASSED_BESIDE)

    monkeypatch.setattr(launcher, "plan_command", plan)


@pytest.mark.fault_row("R11")
@pytest.mark.usefixtures("passed_beside")
@pytest.mark.parametrize(
    ("path", "carrier"),
    [(Boot.DIRECT, Carrier.DISK), (Boot.DIRECT, Carrier.RAM), (Boot.UKI, Carrier.DISK)],
)
def test_registers_are_quoted_as_they_were_predicted(
    prod_image: DirectImage,
    tpm: VirtualTpm,
    tmp_path: Path,
    path: Boot,
    carrier: Carrier,
    fault_seen: FaultSeen,
) -> None:
    boot, initdata = make_boot(path, carrier, tmp_path), make_initdata(tmp_path)
    prediction = predict(boot.what)
    config = boot.put_into(
        plan_guest(prod_image, tmp_path / "guest", tpm=tpm, initdata_disks=(initdata.disk,))
    )
    with recorded_guest(
        config, f"predicted = quoted (prod, {path} through OVMF, {carrier})"
    ) as guest:
        guest.wait_for_hello(HELLO_SECONDS)
        assert wait_for_phase(guest, Phase.NET, PHASE_SECONDS).phase is Phase.NET
        with guest.client() as client:
            client.stop(0)
        states, sealed = follow_to_the_end(guest)
        assert guest.wait_for_end(END_SECONDS) is EndReason.RESET
        assert end_events(guest) == ONE_END
    assert {state.code for state in states} == {Code.OK}
    assert {state.phase for state in states} <= {Phase.NET, Phase.STOP, Phase.OFF}
    assert console_bytes(guest_sinks(guest, config)) == {}

    trust = Trust(tpm=tpm, initdata=initdata)
    log = trust.read(sealed, prediction)
    assert (log.bound, log.guest) == (True, "image image (prod), pod direct")
    evidence = parse_log_evidence(log.entries[0].data[SIGNING_KEY_BYTES:])
    quoted = parse_tpm_evidence(evidence.evidence).pcrs
    assert {index: quoted[index] for index in PREDICTED_REGISTERS} == prediction.registers
    assert (prediction.registers[11] == ZERO_PCR) == (path is Boot.DIRECT)
    # The same log, judged by the values of the same image with its root elsewhere.
    other = predict(UkiBoot(uki=(IMAGES / "ccinit-prod.efi").read_bytes()))
    assert trust.read(sealed, other).bound is False
    fault_seen.host("OK", "a reset")
    fault_seen.owner("bound: registers as predicted")


def test_published_files_of_a_direct_boot_are_those_that_are_booted_here(
    prod_image: DirectImage, tmp_path: Path
) -> None:
    boot = make_boot(Boot.DIRECT, Carrier.DISK, tmp_path)
    assert (tmp_path / "initrd").read_bytes() == prod_image.initrd.read_bytes()
    assert boot.disks[0].path == prod_image.root
