"""Role `extend`: measure events of the guest into the register of its event log.

Or one event into the register of the debug boundary, on platforms that have one of its own.
"""

from collections.abc import Callable, Mapping

from ccinit.agent.jobs.messages.measurement import ExtendReply, ExtendRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.detect import REGISTER
from ccinit.formats.evidence.tee import Tee
from ccinit.kernel.tdx_guest import Rtmr
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.event_log import Extension, extend_register
from ccinit.measure.register import (
    DEBUG_REGISTERS,
    EVENT_REGISTERS,
    MeasurementRegister,
    Pcr,
)
from ccinit.measure.tpm_pcr import TpmPcr


def run(request: ExtendRequest, channel: JobChannel) -> ExtendReply:
    """Do the job; the register's descriptor is named as in `ccinit.attest.detect`."""
    openers, named = (
        (BOUNDARIES, DEBUG_REGISTERS) if request.boundary else (REGISTERS, EVENT_REGISTERS)
    )
    register = openers[request.tee](channel.fds[REGISTER])
    algorithm = named[request.tee].algorithm
    extension = Extension(before=request.before, digests=request.digests)
    return ExtendReply(value=extend_register(register, extension, algorithm))


def _open_pcr(fd: int) -> MeasurementRegister:
    return TpmPcr(TpmDevice(fd), Pcr.EVENT_LOG)


def _open_boundary(fd: int) -> MeasurementRegister:
    return TpmPcr(TpmDevice(fd), Pcr.DEBUG)


REGISTERS: Mapping[Tee, Callable[[int], MeasurementRegister]] = {
    Tee.TPM: _open_pcr,
    Tee.AZ_SNP_VTPM: _open_pcr,
    Tee.SVSM: _open_pcr,
    Tee.AZ_TDX_VTPM: _open_pcr,
    Tee.TDX: Rtmr,
}

BOUNDARIES: Mapping[Tee, Callable[[int], MeasurementRegister]] = {
    Tee.TPM: _open_boundary,
    Tee.AZ_SNP_VTPM: _open_boundary,
    Tee.AZ_TDX_VTPM: _open_boundary,
    Tee.SVSM: _open_boundary,
}
