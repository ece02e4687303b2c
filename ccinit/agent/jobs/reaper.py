"""Role `reaper`: be the first process of the namespace that containers of the pod share.

It reads nothing but its request. Orphans in the namespace become its children, and because it
ignores SIGCHLD, the kernel reaps them. Containers cannot end it by signals: from inside its
namespace, only signals that it handles are delivered, and it handles none.
"""

import signal

from ccinit.agent.jobs.messages.reaper import Reaping, ReapRequest
from ccinit.agent.processes.channel import Kind
from ccinit.agent.processes.child import JobChannel


def run(_request: ReapRequest, channel: JobChannel) -> Reaping:
    """Do the job, which PID 1 ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python installs a handler for this one
    channel.notify(Reaping())
    channel.receive(Kind.ANSWER)  # never comes
    return Reaping()
