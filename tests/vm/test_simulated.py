"""Guests on the simulated platforms of the `test` image, booted directly, without a KBS.

The launch field is compared in the real child under its filter, and the sealed log's evidence is
judged by the owner's verifier. The handshake is the demo's (`make demo TEE=snp-sim`, …).
"""

from pathlib import Path

import pytest

from ccinit.formats.evidence.tee import initdata_binding
from ccinit.formats.planes.host_rpc import Code, Phase
from guest_owner.commands.unseal import evidence_verifier
from guest_owner.kbs.references.requirements import parse_requirements
from guest_owner.kbs.references.roots import parse_certificates
from guest_owner.kbs.references.values import References, RegisteredRoot, register_initdata
from host_runtime.launch.guest import EndReason
from tests.chain.platforms import SAMPLE, SNP, TDX, Simulation
from tests.fakes.documents.unsealed_log import unseal
from tests.faults.plugin import FaultSeen
from tests.vm.direct_boot import (
    BOOT_TEST_SECONDS,
    END_SECONDS,
    HELLO_SECONDS,
    DirectImage,
    PreparedInitdata,
    console_bytes,
    follow_to_the_end,
    guest_sinks,
    make_initdata,
    plan_guest,
    recorded_guest,
    wait_for_phase,
)

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]

PHASE_SECONDS = 120.0


def references(simulation: Simulation, initdata: PreparedInitdata) -> References:
    assert simulation.roots is not None
    roots = parse_certificates(simulation.roots.read_bytes())
    return References(
        sets=(simulation.reference,),
        roots=(RegisteredRoot(name="sim", platform=simulation.tee, certificates=roots),),
        requirements=(parse_requirements(simulation.requirements.encode(), simulation.tee),),
        initdata=(register_initdata("direct", initdata.document),),
    )


@pytest.mark.parametrize("simulation", [SNP, TDX], ids=lambda one: one.tee.value)
def test_guest_whose_host_bound_its_document_makes_evidence(
    test_image: DirectImage, tmp_path: Path, simulation: Simulation
) -> None:
    algorithm = initdata_binding(simulation.tee).algorithm
    initdata = make_initdata(tmp_path, algorithm=algorithm)
    config = plan_guest(
        test_image,
        tmp_path / "guest",
        initdata_disks=(initdata.disk,),
        serial_number=simulation.serial_number(initdata.document),
    )
    with recorded_guest(config, f"simulated {simulation.tee} (test, direct)") as guest:
        guest.wait_for_hello(HELLO_SECONDS)
        assert wait_for_phase(guest, Phase.NET, PHASE_SECONDS).phase is Phase.NET
        with guest.client() as client:
            client.stop(0)
        states, sealed = follow_to_the_end(guest)
        assert guest.wait_for_end(END_SECONDS) is EndReason.RESET
    assert {state.code for state in states} == {Code.OK}
    known = references(simulation, initdata)
    judge = evidence_verifier(known)
    read = unseal(sealed, initdata.log_key, verify_evidence=judge)
    assert (read.bound, read.guest) == (True, "image demo (test), pod direct")
    stranger = evidence_verifier(References(initdata=known.initdata))
    assert unseal(sealed, initdata.log_key, verify_evidence=stranger).bound is False
    assert console_bytes(guest_sinks(guest, config)) == {}


def test_r04_guest_whose_host_bound_another_document_stops_in_config(
    test_image: DirectImage, tmp_path: Path, fault_seen: FaultSeen
) -> None:
    initdata = make_initdata(tmp_path)
    config = plan_guest(
        test_image,
        tmp_path / "guest",
        initdata_disks=(initdata.disk,),
        serial_number=SNP.serial_number(initdata.document + b"\n"),
    )
    with recorded_guest(config, "HOSTDATA of another document (test, direct)") as guest:
        guest.wait_for_hello(HELLO_SECONDS)
        states, sealed = follow_to_the_end(guest)
        assert guest.wait_for_end(END_SECONDS) is EndReason.RESET
    assert states[-1].code is Code.CONFIG
    assert {state.phase for state in states} <= {
        Phase.LISTEN,
        Phase.CONFIG,
        Phase.STOP,
        Phase.OFF,
    }
    assert sealed == b""  # nobody's key is known, so nothing is written for anybody
    fault_seen.host(states[-1].code.name, "a reset")


def test_sample_guest_goes_on_with_a_document_that_nothing_binds(
    test_image: DirectImage, tmp_path: Path
) -> None:
    initdata = make_initdata(tmp_path)
    config = plan_guest(
        test_image,
        tmp_path / "guest",
        initdata_disks=(initdata.disk,),
        serial_number=SAMPLE.serial_number(initdata.document),
    )
    with recorded_guest(config, "sample platform (test, direct)") as guest:
        guest.wait_for_hello(HELLO_SECONDS)
        assert wait_for_phase(guest, Phase.NET, PHASE_SECONDS).phase is Phase.NET
        with guest.client() as client:
            client.stop(0)
        _, sealed = follow_to_the_end(guest)
        assert guest.wait_for_end(END_SECONDS) is EndReason.RESET
    known = References(
        sets=(SAMPLE.reference,), initdata=(register_initdata("direct", initdata.document),)
    )
    read = unseal(sealed, initdata.log_key, verify_evidence=evidence_verifier(known))
    # It is the guest's evidence in every other respect; the log of such a guest is bound to no pod.
    assert (read.bound, read.guest) == (False, "")
    (found,) = read.findings
    assert found.detail.endswith("evidence refused: initdata.digest")
    assert console_bytes(guest_sinks(guest, config)) == {}
