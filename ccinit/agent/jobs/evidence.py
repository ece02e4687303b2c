"""Role `evidence`: make the platform's evidence; its devices come as descriptors."""

from collections.abc import Callable, Mapping

from ccinit.agent.child import JobChannel
from ccinit.agent.messages import EvidenceReply, EvidenceRequest
from ccinit.attest.attester import Attester
from ccinit.attest.tpm import TpmAttester
from ccinit.formats.rcar import canonical_json
from ccinit.formats.tee import ReportData, Tee
from ccinit.kernel.tpm import TpmDevice


def run(request: EvidenceRequest, channel: JobChannel) -> EvidenceReply:
    """Do the job; descriptors are named as in `ccinit.attest.detect`."""
    attester = ATTESTERS[request.tee](channel.fds)
    evidence = attester.collect_evidence(ReportData(request.report_data))
    return EvidenceReply(evidence=canonical_json(evidence.value))


def _tpm(fds: Mapping[str, int]) -> Attester:
    return TpmAttester(TpmDevice(fds["tpm"]))


ATTESTERS: Mapping[Tee, Callable[[Mapping[str, int]], Attester]] = {Tee.TPM: _tpm}
