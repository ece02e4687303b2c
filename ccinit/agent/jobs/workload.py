"""Role `workload`: one HTTP request of a container; what it asks for goes to PID 1.

It has the connection and nothing else.
"""

from ccinit.agent.processes.child import JobChannel
from ccinit.errors import CcinitError
from ccinit.formats.planes.workload_api import WorkloadCall
from ccinit.workload.connection import serve
from ccinit.workload.messages import WorkloadAnswer, WorkloadEnd, WorkloadRequest


def run(_request: WorkloadRequest, channel: JobChannel) -> WorkloadEnd:
    """Do the job; the socket is named `connection`."""

    def carry(call: WorkloadCall) -> WorkloadAnswer:
        return channel.ask(call, WorkloadAnswer)

    try:
        serve(channel.fds["connection"], carry)
    except CcinitError as error:
        return WorkloadEnd(why=str(error))
    return WorkloadEnd(why="")
