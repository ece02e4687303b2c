"""Role `measure`: bind the document's digest into a register of the TPM, which comes as an fd."""

from ccinit.agent.child import JobChannel
from ccinit.agent.messages import BindReply, BindRequest
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.initdata import bind_initdata
from ccinit.measure.register import Pcr, TpmPcr


def run(request: BindRequest, channel: JobChannel) -> BindReply:
    """Do the job; the device's descriptor is named `tpm`."""
    with TpmDevice(channel.fds["tpm"]) as device:
        value = bind_initdata(TpmPcr(device, Pcr.INITDATA), request.digest)
    return BindReply(value=value)
