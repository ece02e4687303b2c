"""Between PID 1 and the child `reaper`."""

from ccinit.values import frozen


@frozen
class ReapRequest:
    """Be the first process of your namespace until you are ended."""


@frozen
class Reaping:
    """From now on, orphaned processes in the namespace are reaped."""
