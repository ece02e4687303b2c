"""Every register that the guest extends is opened as what it is."""

import pytest

from ccinit.agent.jobs.extend import open_register
from ccinit.formats.evidence.tee import Tee
from ccinit.kernel.tdx_guest import Rtmr
from ccinit.measure.register import DEBUG_REGISTERS, EVENT_REGISTERS, Pcr
from ccinit.measure.tpm_pcr import TpmPcr

FD = 7
VTPMS = {Tee.TPM, Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM, Tee.SVSM}


@pytest.mark.parametrize("tee", EVENT_REGISTERS)
def test_event_log_is_a_pcr_of_every_vtpm_and_an_rtmr_of_tdx(tee: Tee) -> None:
    register = open_register(EVENT_REGISTERS[tee].number, FD)
    if tee in VTPMS:
        assert isinstance(register, TpmPcr)
        assert register.pcr is Pcr.EVENT_LOG
    else:
        assert tee is Tee.TDX
        assert isinstance(register, Rtmr)


@pytest.mark.parametrize("tee", DEBUG_REGISTERS)
def test_debug_boundary_is_a_pcr_of_every_vtpm(tee: Tee) -> None:
    register = open_register(DEBUG_REGISTERS[tee].number, FD)
    assert tee in VTPMS
    assert isinstance(register, TpmPcr)
    assert register.pcr is Pcr.DEBUG
