"""What PID 1 and the child that feeds tars to mkfs.erofs say to each other; see `layers`."""

from ccinit.values import frozen


@frozen
class FeedRequest:
    """What the child is asked: pass the tar on, and give its memory back on the way."""


@frozen
class FedTar:
    """All of it has gone into the pipe."""
