"""Role `endorse`: fetch what the cloud's service says about this machine's hardware report."""

from ccinit.agent.jobs.messages.evidence import EndorsementAnswer, EndorseRequest
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.azure_metadata import HOST, fetch_endorsement
from ccinit.net.metadata import metadata_client


def run(request: EndorseRequest, _channel: JobChannel) -> EndorsementAnswer:
    """Do the job."""
    with metadata_client(HOST) as client:
        endorsement = fetch_endorsement(client, request.tee, request.hardware)
    return EndorsementAnswer(endorsement=endorsement)
