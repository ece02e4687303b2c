"""The guest's PCRs."""

import hashlib

from ccinit.measure.register import Pcr
from ccinit.measure.tpm_pcr import TpmPcr
from tests.fakes.tpm_device import SimulatedDevice, SimulatedTpm
from tests.fakes.tpm_quote import FakeTpm, rsa_key


def test_pcr_extends_and_reads_its_own_register() -> None:
    tpm = SimulatedTpm(tpm=FakeTpm(key=rsa_key(0)))
    register = TpmPcr(SimulatedDevice(tpm), Pcr.EVENT_LOG)
    assert register.read() == bytes(32)
    register.extend(b"\x01" * 32)
    assert register.read() == hashlib.sha256(bytes(32) + b"\x01" * 32).digest()
    assert tpm.tpm.pcrs[14] == register.read()


def test_guest_extends_no_register_that_it_could_reset() -> None:
    assert sorted(Pcr) == [8, 14, 15]
