"""A container's life as a table, and when it is restarted (R75).

Scope: pure decisions. `ccinit.run.supervisor` carries them out.

    state     event      next      meaning
    PENDING   CREATE     CREATED   crun has made it; its program does not run yet
    CREATED   START      RUNNING
    RUNNING   EXIT_GOOD  RETRYING  or DONE: the restart policy decides
    RUNNING   EXIT_BAD   RETRYING  or FAILED: the restart policy decides
    RETRYING  CREATE     CREATED
    any live  STOP       STOPPED   the pod ends

A start that fails counts as a bad exit: `PENDING`, `CREATED` and `RETRYING` take EXIT_BAD too.
"""

from enum import StrEnum
from typing import Final

from ccinit.formats.pod.container import Restart
from ccinit.values import frozen

FIRST_DELAY_SECONDS: Final = 1.0
MAX_DELAY_SECONDS: Final = 60.0
STABLE_SECONDS: Final = 600.0  # after a run this long, a failure starts a new series


class ContainerState(StrEnum):
    """Where a container is in its life; the last three are final."""

    PENDING = "pending"
    CREATED = "created"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class ContainerEvent(StrEnum):
    """What can happen to a container."""

    CREATE = "create"
    START = "start"
    EXIT_GOOD = "exit-good"
    EXIT_BAD = "exit-bad"
    STOP = "stop"


FINAL_STATES: Final = frozenset(
    {ContainerState.DONE, ContainerState.FAILED, ContainerState.STOPPED}
)

_S = ContainerState
_E = ContainerEvent
# (state, event) to the next state: without a restart, and with one
TRANSITIONS: Final[dict[tuple[ContainerState, ContainerEvent], tuple[_S, _S]]] = {
    (_S.PENDING, _E.CREATE): (_S.CREATED, _S.CREATED),
    (_S.RETRYING, _E.CREATE): (_S.CREATED, _S.CREATED),
    (_S.CREATED, _E.START): (_S.RUNNING, _S.RUNNING),
    (_S.RUNNING, _E.EXIT_GOOD): (_S.DONE, _S.RETRYING),
    (_S.RUNNING, _E.EXIT_BAD): (_S.FAILED, _S.RETRYING),
    (_S.PENDING, _E.EXIT_BAD): (_S.FAILED, _S.RETRYING),
    (_S.CREATED, _E.EXIT_BAD): (_S.FAILED, _S.RETRYING),
    (_S.RETRYING, _E.EXIT_BAD): (_S.FAILED, _S.RETRYING),
    (_S.PENDING, _E.STOP): (_S.STOPPED, _S.STOPPED),
    (_S.CREATED, _E.STOP): (_S.STOPPED, _S.STOPPED),
    (_S.RUNNING, _E.STOP): (_S.STOPPED, _S.STOPPED),
    (_S.RETRYING, _E.STOP): (_S.STOPPED, _S.STOPPED),
}


@frozen
class Life:
    """The state of one container, and what its restart policy has to remember.

    Attributes:
        delay_seconds: how long to wait before the next start, if the state is RETRYING.
        starts: how often it was started.
    """

    state: ContainerState = ContainerState.PENDING
    delay_seconds: float = 0.0
    starts: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES


def next_life(
    life: Life, event: ContainerEvent, policy: Restart, *, ran_seconds: float = 0.0
) -> Life:
    """Return the life after `event`.

    Args:
        life: before.
        event: what happened.
        policy: of the manifest.
        ran_seconds: how long the program ran, for exits.

    Raises:
        RuntimeError: the event cannot happen in this state.
    """
    try:
        without, again = TRANSITIONS[life.state, event]
    except KeyError:
        raise RuntimeError(f"{event} cannot happen to a {life.state} container") from None
    retries = _restarts(policy, event)
    state = again if retries else without
    delay = life.delay_seconds
    if state is ContainerState.RETRYING:
        delay = next_delay(life.delay_seconds, ran_seconds)
    started = event is ContainerEvent.START
    return Life(state=state, delay_seconds=delay, starts=life.starts + started)


def next_delay(last_seconds: float, ran_seconds: float) -> float:
    """Return the back-off before a restart: doubling, bounded, reset by a long run."""
    if last_seconds == 0 or ran_seconds >= STABLE_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(last_seconds * 2, MAX_DELAY_SECONDS)


def _restarts(policy: Restart, event: ContainerEvent) -> bool:
    match policy:
        case Restart.NEVER:
            return False
        case Restart.ON_FAILURE:
            return event is ContainerEvent.EXIT_BAD
        case Restart.ALWAYS:
            return event in {ContainerEvent.EXIT_GOOD, ContainerEvent.EXIT_BAD}
