"""Whose exit code is the pod's: one number for all main containers.

Scope: a pure choice among ends. Left to others: when a pod has ended by itself (`init`), and
whether its host may know the number (`agent`, by `[allow]` of the manifest).

    every main container ended well               0
    else, of those that did not, the last to end
        exited with N                             N
        was ended by signal N                     128 + N, as shells have it
        has no such number                        none: see `choose_exit_code`

So the code is that of the container whose end ended the pod, unless that one ended well after
another had failed: 0 means that nothing failed. Only a container's last run counts: failures that a
restart has made good do not.
"""

from collections.abc import Iterable
from typing import Final

from ccinit.kernel.process import ExitStatus
from ccinit.run.container import ContainerState
from ccinit.values import frozen

SIGNALLED: Final = 128


@frozen
class ContainerEnd:
    """How a main container ended.

    Attributes:
        state: of its life.
        status: how its program last ended; None if that is unknown.
    """

    state: ContainerState
    status: ExitStatus | None


def choose_exit_code(ends: Iterable[ContainerEnd]) -> int | None:
    """Return the pod's exit code, 0 to 255.

    Args:
        ends: of all main containers, in the order in which they ended.

    Returns:
        None if a container was stopped or has not ended, since then the pod did not end by itself;
        and if the deciding container's end has no number: it is unknown, or 0 despite a failure
        (the container was ended for failing its probe).
    """
    code: int | None = 0
    for end in ends:
        match end.state:
            case ContainerState.DONE:
                pass
            case ContainerState.FAILED:
                code = _code_of_failure(end.status)
            case _:
                return None
    return code


def _code_of_failure(status: ExitStatus | None) -> int | None:
    if status is None or status.is_success():
        return None
    return SIGNALLED + status.signal if status.signal else status.code
