"""Role `measure`: bind the initdata digest; the platform's devices come as descriptors."""

from collections.abc import Callable, Mapping

from ccinit.agent.child import JobChannel
from ccinit.agent.messages import BindReply, BindRequest
from ccinit.formats.tee import Tee
from ccinit.kernel.tpm import TpmDevice
from ccinit.measure.initdata import bind_initdata
from ccinit.measure.register import Pcr, TpmPcr


def run(request: BindRequest, channel: JobChannel) -> BindReply:
    """Do the job; descriptors are named as in `ccinit.attest.detect`."""
    return BindReply(value=BINDERS[request.tee](channel.fds, request.digest))


def _extend_pcr(fds: Mapping[str, int], digest: bytes) -> bytes:
    return bind_initdata(TpmPcr(TpmDevice(fds["tpm"]), Pcr.INITDATA), digest)


BINDERS: Mapping[Tee, Callable[[Mapping[str, int], bytes], bytes]] = {Tee.TPM: _extend_pcr}
