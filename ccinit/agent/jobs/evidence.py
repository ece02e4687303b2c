"""Role `evidence`: quote the platform's registers; the TPM by descriptor."""

from ccinit.agent.child import JobChannel
from ccinit.agent.messages import EvidenceReply, EvidenceRequest
from ccinit.attest.attester import ReportData
from ccinit.attest.tpm import TpmAttester
from ccinit.formats.rcar import canonical_json
from ccinit.kernel.tpm import TpmDevice


def run(request: EvidenceRequest, channel: JobChannel) -> EvidenceReply:
    """Do the job; the device's descriptor is named `tpm`."""
    with TpmDevice(channel.fds["tpm"]) as device:
        evidence = TpmAttester(device).collect_evidence(ReportData(request.report_data))
    return EvidenceReply(evidence=canonical_json(evidence.value))
