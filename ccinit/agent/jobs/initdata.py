"""Role `initdata`: find and inflate the host's document; the disks come as descriptors."""

from ccinit.agent.processes.child import JobChannel
from ccinit.boot.configuration import InitdataDocument, ReadInitdata, read_initdata


def run(_request: ReadInitdata, channel: JobChannel) -> InitdataDocument:
    """Do the job."""
    return read_initdata(tuple(channel.fds.values()))
