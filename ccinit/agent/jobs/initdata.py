"""Role `initdata`: find and inflate the host's document; the disks come as descriptors."""

from ccinit.agent.processes.child import JobChannel
from ccinit.boot.configuration import InitdataDocument, ReadInitdata, read_initdata


def run(request: ReadInitdata, channel: JobChannel) -> InitdataDocument:
    """Do the job; the disks' descriptors are named `0`, `1`, …"""
    return read_initdata(tuple(channel.fds[str(index)] for index in range(request.disks)))
