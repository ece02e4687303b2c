"""Role `extend`: measure events of the guest into the register of its event log.

On platforms with a separate register for the debug boundary, it measures that one event there.
"""

from ccinit.agent.jobs.messages.measurement import ExtendReply, ExtendRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.platform_fd import PlatformFd
from ccinit.kernel.tdx_guest import Rtmr
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.event_log import Extension, extend_register
from ccinit.measure.register import DEBUG_REGISTERS, EVENT_REGISTERS, MeasurementRegister, Pcr
from ccinit.measure.tpm_pcr import TpmPcr


def run(request: ExtendRequest, channel: JobChannel) -> ExtendReply:
    """Do the job; the descriptor is named as in `ccinit.attest.platform_fd`."""
    registers = DEBUG_REGISTERS if request.boundary else EVENT_REGISTERS
    named = registers[request.tee]
    register = open_register(named.number, channel.fds[PlatformFd.REGISTER])
    extension = Extension(before=request.before, digests=request.digests)
    return ExtendReply(value=extend_register(register, extension, named.algorithm))


def open_register(number: int, fd: int) -> MeasurementRegister:
    """Return the register behind `fd`: a TPM's device has all PCRs, an RTMR has its own file."""
    return TpmPcr(TpmDevice(fd), number) if isinstance(number, Pcr) else Rtmr(fd)
