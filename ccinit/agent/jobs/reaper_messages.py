"""What PID 1 and the child `reaper` say to each other.

Apart from the other `messages`: this child stays as long as the pod, and so does what it loads.
"""

from ccinit.values import frozen


@frozen
class ReapRequest:
    """Be the first process of your namespace until you are ended."""


@frozen
class Reaping:
    """From now on whoever loses its parent in the namespace is collected."""
