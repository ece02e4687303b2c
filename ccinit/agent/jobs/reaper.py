"""Role `reaper`: be the first process of the namespace that containers of the pod share.

It reads nothing but its request. What loses its parent in the namespace becomes its child, and the
kernel collects those by itself for a process that ignores SIGCHLD. Signals of containers cannot end
it: from inside its namespace only those arrive that it handles, and it handles none.
"""

import signal

from ccinit.agent.jobs.messages.reaper import Reaping, ReapRequest
from ccinit.agent.processes.channel import Kind
from ccinit.agent.processes.child import JobChannel


def run(_request: ReapRequest, channel: JobChannel) -> Reaping:
    """Do the job, which PID 1 ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interpreter's own handler would be one
    channel.notify(Reaping())
    channel.receive(Kind.ANSWER)  # never comes
    return Reaping()
