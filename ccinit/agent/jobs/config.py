"""Role `config`: parse the document that is now bound to the platform."""

from ccinit.agent.processes.child import JobChannel
from ccinit.boot.configuration import Configuration, ParseInitdata, parse_configuration


def run(request: ParseInitdata, _channel: JobChannel) -> Configuration:
    """Do the job."""
    return parse_configuration(request.document)
