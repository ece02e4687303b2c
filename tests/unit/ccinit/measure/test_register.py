"""The guest's PCRs."""

import hashlib

from ccinit.formats.evidence.tee import Binding, Tee, initdata_binding
from ccinit.measure.register import DEBUG_REGISTERS, EVENT_REGISTERS, Pcr
from ccinit.measure.tpm_pcr import TpmPcr
from tests.fakes.platforms.tpm_device import SimulatedDevice, SimulatedTpm
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key


def test_pcr_extends_and_reads_its_own_register() -> None:
    tpm = SimulatedTpm(tpm=FakeTpm(key=rsa_key(0)))
    register = TpmPcr(SimulatedDevice(tpm), Pcr.EVENT_LOG)
    assert register.read() == bytes(32)
    register.extend(b"\x01" * 32)
    assert register.read() == hashlib.sha256(bytes(32) + b"\x01" * 32).digest()
    assert tpm.tpm.pcrs[14] == register.read()


def test_guest_extends_no_register_that_it_could_reset() -> None:
    assert sorted(Pcr) == [8, 14, 15]


def test_debug_has_pcr_15_wherever_the_document_has_pcr_8() -> None:
    by_registers = {tee for tee in Tee if initdata_binding(tee).binding is Binding.EXTENDED}
    assert set(DEBUG_REGISTERS) == by_registers
    assert {register.number for register in DEBUG_REGISTERS.values()} == {Pcr.DEBUG}
    assert {EVENT_REGISTERS[tee].number for tee in by_registers} == {Pcr.EVENT_LOG}
